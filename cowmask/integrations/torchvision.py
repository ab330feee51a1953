"""The five transforms as torchvision's v2 has them, for where `v2.CutMix`, `v2.MixUp` or `v2.RandomErasing` stands.

Each class holds the transform of its name in `cowmask` as `core`, and takes its arguments. The core draws and mixes;
this file finds in a sample what the core is to change. A sample may be a tuple, a dict or nested, and be passed as one
argument or unpacked. The result has the structure and the types of the sample. What is not an image, a mask or labels
is passed on.

The images of a sample are its `tv_tensors.Image`s and `Video`s. If it has none, the first pure tensor is the image. A
video has one mask for all of its frames. For `partner=`, `mask=` and `generator=`, call the classes of `cowmask`.

`pip install ".[torchvision]"` in a clone brings torchvision.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import PIL.Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten  # torchvision's own: it opens the same containers
from torchvision import tv_tensors
from torchvision.transforms import v2

from cowmask import transforms

LabelsGetter = Callable[[Any], Tensor | None] | str | None


class _Adapter(v2.Transform):
    _core_class: ClassVar[Callable[..., Any]]
    _refused: ClassVar[dict[type, str]] = {PIL.Image.Image: "PIL images: put v2.ToImage() before"}

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__()
        self.core = self._core_class(*arguments, **settings)

    def forward(self, *inputs: Any) -> Any:
        """Change the images of a sample, and what belongs to them.

        Args:
            inputs: The sample, or the parts of one that is a tuple.

        Returns:
            The sample with new tensors in it, of the same types. Several inputs come back as a tuple.

        Raises:
            TypeError, ValueError: The sample has no images, or something that cannot be changed.
        """
        sample = inputs if len(inputs) > 1 else inputs[0]
        parts, structure = tree_flatten(sample)
        self._check(parts)
        for i, changed in self._change(sample, parts).items():
            came = parts[i]
            is_typed = isinstance(came, tv_tensors.TVTensor)
            parts[i] = tv_tensors.wrap(changed.reshape(came.shape), like=came) if is_typed else changed
        return tree_unflatten(parts, structure)

    def _check(self, parts: Sequence[Any]) -> None:
        for part in parts:
            for kind, words in self._refused.items():
                if isinstance(part, kind):
                    raise ValueError(f"{self._get_name()} does not take {words}")
            if isinstance(part, tv_tensors.Video) and self.core.ndim != 2:
                raise ValueError(
                    f"a Video has one mask for all of its frames, which needs ndim=2, got ndim={self.core.ndim}: "
                    "for masks that change in time pass a pure tensor (B, C, T, H, W)"
                )

    @abstractmethod
    def _change(self, sample: Any, parts: Sequence[Any]) -> dict[int, Tensor]:
        """Return what takes the place of some parts of a sample, by their positions."""

    def __repr__(self) -> str:
        return repr(self.core)


class _Mixer(_Adapter):
    _refused: ClassVar[dict[type, str]] = _Adapter._refused | {
        tv_tensors.BoundingBoxes: "bounding boxes, which a mask cannot mix: take them out of the sample",
        tv_tensors.KeyPoints: "key points, which a mask cannot mix: take them out of the sample",
    }

    def __init__(self, *arguments: Any, labels_getter: LabelsGetter = "default", **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if not (labels_getter is None or labels_getter == "default" or callable(labels_getter)):
            raise ValueError(f'labels_getter must be "default", a function or None, got {labels_getter!r}')
        self.labels_getter = labels_getter

    def _change(self, sample: Any, parts: Sequence[Any]) -> dict[int, Tensor]:
        labels = self._find_labels(sample, parts)
        dense = [*_images(parts, labels), *_positions(parts, tv_tensors.Mask)]
        if labels is None and self.labels_getter == "default" and len(dense) < len(_positions(parts, Tensor)):
            raise ValueError(
                "found no labels, but tensors that are neither images nor masks: name the entry 'labels', or pass "
                "labels_getter=function, which takes the sample, or labels_getter=None if there are no labels"
            )
        chosen = dense if labels is None else [*dense, labels]
        mixed = self.core(*(self._for_core(parts[i]) for i in chosen))
        return dict(zip(chosen, (mixed,) if isinstance(mixed, Tensor) else mixed, strict=True))

    def _find_labels(self, sample: Any, parts: Sequence[Any]) -> int | None:
        """Return the position of the labels, or None where there are none."""
        getter = _default_labels if self.labels_getter == "default" else self.labels_getter
        labels = getter(sample) if callable(getter) else None
        if labels is None:
            return None
        if not isinstance(labels, Tensor):
            raise ValueError(
                f"labels must be a tensor, got {type(labels).__name__}: make it one, or pass labels_getter"
            )
        for i, part in enumerate(parts):
            if part is labels:
                return i
        raise ValueError("labels_getter must return a tensor of the sample itself, got another one")

    def _for_core(self, x: Tensor) -> Tensor:
        ndim = self.core.ndim
        if isinstance(x, tv_tensors.Video) and x.ndim != 5:
            raise ValueError(f"videos must be a batch (B, T, C, H, W), got shape {tuple(x.shape)}")
        if isinstance(x, (tv_tensors.Video, tv_tensors.Mask)) and x.ndim > ndim + 2:
            return x.flatten(1, -ndim - 1)  # time among the channels: one mask for all frames
        if x.ndim == 2 and ndim > 1 and not x.is_floating_point():
            return x.float()  # labels of several classes: nothing else has two axes
        return x


class _Eraser(_Adapter):
    def _change(self, _: Any, parts: Sequence[Any]) -> dict[int, Tensor]:
        clips = {i: self._as_clips(parts[i]) for i in _images(parts)}
        masks = self.core.sample(next(iter(clips.values()))[:, 0])  # (B, 1, *size)
        return {i: self._erase(x, masks).reshape(parts[i].shape) for i, x in clips.items()}

    def _as_clips(self, x: Tensor) -> Tensor:
        """Return images or videos, a batch of them or one, as (B, T, C, *size)."""
        is_video = isinstance(x, tv_tensors.Video)
        axes = self.core.ndim + 1 + is_video
        if x.ndim not in (axes, axes + 1):
            raise ValueError(
                f"with ndim={self.core.ndim}, {'a video' if is_video else 'an image'} must have {axes} axes, and a "
                f"batch of them {axes + 1}, got shape {tuple(x.shape)}"
            )
        batch = x[None] if x.ndim == axes else x
        return batch if is_video else batch[:, None]

    def _erase(self, clips: Tensor, masks: Tensor) -> Tensor:
        of_frames = masks[:, None].expand(-1, clips.shape[1], *masks.shape[1:])
        return self.core(clips.flatten(0, 1), mask=of_frames.flatten(0, 1))


@final
class CowMix(_Mixer):
    """Mix batches by cow masks, where `v2.CutMix` stands.

    Args:
        arguments, settings: As for `cowmask.CowMix`.
        labels_getter: How to find the labels, (B,) integer or (B, K), in a sample. "default" looks where torchvision
            does: the second part of a tuple if it is a pure tensor, else what a key such as "labels" holds, in a dict
            that is the second part or the sample. A function takes the sample and returns one of its tensors, labels or
            dense targets. None: there are no labels.

    Convention:
        `tv_tensors.Mask`s are mixed with the images, and 255 stays 255. A sample of images and masks alone needs no
        labels. If there are other tensors in it, and no labels are found, an error asks for a `labels_getter`.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> batch = {
        ...     "image": tv_tensors.Image(torch.rand(4, 3, 64, 64)),
        ...     "mask": tv_tensors.Mask(torch.randint(0, 9, (4, 64, 64))),
        ...     "names": ["a", "b", "c", "d"],
        ... }
        >>> mixed = CowMix(sigma=(4, 16))(batch)
        >>> {key: type(value).__name__ for key, value in mixed.items()}
        {'image': 'Image', 'mask': 'Mask', 'names': 'list'}
    """

    _core_class = transforms.CowMix


@final
class CutMix(_Mixer):
    """Mix batches by box masks, where `v2.CutMix` stands.

    Args:
        arguments, settings: As for `cowmask.CutMix`. Its default is a box of half the image. That of `v2.CutMix`,
            `alpha=1`, is `area=(0, 1), aspect=height / width, clip=True`.
        labels_getter: As for `CowMix`.

    Example:
        >>> import torch
        >>> images, labels = CutMix(num_classes=10)(torch.rand(4, 3, 32, 32), torch.tensor([1, 2, 3, 4]))
        >>> images.shape, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

    _core_class = transforms.CutMix


@final
class MixUp(_Mixer):
    """Blend batches with one weight per image, where `v2.MixUp` stands, whose `alpha` is the same.

    Args:
        arguments, settings: As for `cowmask.MixUp`. Images and masks must be floating.
        labels_getter: As for `CowMix`.

    Example:
        >>> import torch
        >>> images, labels = MixUp(alpha=0.2, num_classes=10)(torch.rand(4, 3, 32, 32), torch.tensor([1, 2, 3, 4]))
        >>> images.shape, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

    _core_class = transforms.MixUp


@final
class CowOut(_Eraser):
    """Erase parts of images by cow masks, where `v2.RandomErasing` stands.

    Images are (C, H, W) or (B, C, H, W), and a `tv_tensors.Video` is (T, C, H, W) or (B, T, C, H, W). Each image of a
    batch has a mask of its own. Several images in a sample, such as a stereo pair, have the same mask. All else is
    passed on, `tv_tensors.Mask`s and bounding boxes too.

    Args:
        arguments, settings: As for `cowmask.CowOut`.

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> pipeline = v2.Compose([v2.RandomHorizontalFlip(), CowOut(sigma=(4, 16), p=0.5)])
        >>> image, label = pipeline(torch.rand(3, 64, 64), 7)
        >>> image.shape, label
        (torch.Size([3, 64, 64]), 7)
    """

    _core_class = transforms.CowOut


@final
class CutOut(_Eraser):
    """Erase boxes from images, where `v2.RandomErasing` stands. Samples are those of `CowOut`.

    Args:
        arguments, settings: As for `cowmask.CutOut`.

    Example:
        >>> import torch
        >>> CutOut(area=(0.02, 0.33), p=0.5)(torch.rand(3, 32, 32)).shape
        torch.Size([3, 32, 32])
    """

    _core_class = transforms.CutOut


def _images(parts: Sequence[Any], labels: int | None = None) -> list[int]:
    """Return the positions of the images, by the rule of torchvision's transforms."""
    images = _positions(parts, tv_tensors.Image, tv_tensors.Video)
    images = images or [i for i in _positions(parts, Tensor) if _is_pure(parts[i]) and i != labels][:1]
    if not images:
        raise ValueError("expected an image in the sample, a pure tensor, tv_tensors.Image or Video, got none")
    return images


def _positions(parts: Sequence[Any], *kinds: type) -> list[int]:
    return [i for i, part in enumerate(parts) if isinstance(part, kinds)]


def _is_pure(x: Any) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, tv_tensors.TVTensor)


def _default_labels(sample: Any) -> Any:
    """Find labels where torchvision looks for them."""
    part = sample[1] if isinstance(sample, (tuple, list)) and len(sample) > 1 else sample
    if isinstance(part, Mapping):
        keys = [key for key in part if isinstance(key, str) and "label" in key.lower()]
        keys.sort(key=lambda key: key.lower() != "labels")
        return part[keys[0]] if keys else None
    return part if _is_pure(part) and part is not sample else None
