"""CowMix and CowOut as augmentations of kornia (0.9 or newer; `pip install ".[kornia]"` in a clone).

Put `RandomCowMix` into a sequence, not `cowmask.CowMix`. kornia hands a module that is not its own the image alone: a
bare `CowMix()` in an `AugmentationSequential` mixes the images and leaves their masks and labels unmixed.

    from cowmask.integrations.kornia import AugmentationSequential, RandomCowMix, RandomCowOut

`RandomCowMix` mixes inputs, masks and class labels by the same cow masks. `RandomCowOut` erases. Both follow the
conventions of kornia's own augmentations, and draw by its mechanism: what `_params` holds replays a call.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D, MixAugmentationBaseV2
from kornia.augmentation import container as containers
from kornia.augmentation.container import ops
from kornia.augmentation.random_generator import RandomGeneratorBase
from kornia.constants import DataKey
from torch import Tensor

from cowmask._checks import arguments
from cowmask.mixing import erase, mix_batch
from cowmask.transforms import CowMix, CowOut

Params = dict[str, Tensor]


class CowMaskGenerator(RandomGeneratorBase):
    """Draw the cow masks of a transform, one for each image, on the device that the augmentation was moved to.

    What is kept for a replay are the masks themselves, a byte a pixel. A seed would be smaller, but it gives other
    masks on another device or in a batch of another size, and cannot be edited or taken apart by sample.
    """

    def __init__(self, transform: CowMix | CowOut) -> None:
        super().__init__()
        self.transform = transform

    def __repr__(self) -> str:
        names = ("sigma", "proportion", "spacing")
        return ", ".join(f"{name}={getattr(self.transform, name)!r}" for name in names)

    def make_samplers(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make none: cowmask draws, on `self.device`."""

    def forward(self, batch_shape: Sequence[int], same_on_batch: bool = False) -> Params:
        """Draw masks for images of `batch_shape`, (B, C, H, W).

        Returns:
            `cow_masks`, bool (B, 1, H, W). True is the partner's for RandomCowMix, and kept for RandomCowOut.
        """
        n, _, *size = batch_shape
        images = torch.empty((), device=self.device).expand(1 if same_on_batch else max(n, 1), 1, *size)
        return {"cow_masks": self.transform.sample(images).expand(n, 1, *size)}


class RandomCowMix(MixAugmentationBaseV2):
    """Mix images, their masks and their class labels by cow masks.

    Args:
        sigma: Pixels, log-uniform in a range for each image, as for `cowmask.CowMix`.
        proportion: Expected fraction taken from the partner, in [0, 1].
        spacing: As for `cowmask.CowMix`.
        same_on_batch: Draw one mask, and whether to mix, for the whole batch.
        p: Probability that an image is mixed at all, drawn once for each image.
        keepdim: Return tensors with as many axes as came, rather than (B, C, H, W).
        data_keys: What the positional inputs are: "input", "mask" and "class", in any order.

    Inputs:
        - "input": images (B, C, H, W), floating. (C, H, W) and (H, W) are taken as a batch of one.
        - "mask": (B, X, H, W) or (B, H, W), of any dtype. Pixels are selected, never blended: 255 stays 255.
        - "class": integer labels (B,).

    Returns:
        What came, mixed, in its order. Labels become (B, 3) float32, the convention of kornia's `RandomMixUpV2`: own
        label, partner's label, and lambda, the *partner's* weight, here the measured fraction of the image. An image
        that is not mixed has its own label twice, and lambda 0.

    Raises:
        NotImplementedError: A data key names boxes or keypoints.
        TypeError, ValueError: A setting is out of range, or a tensor has the wrong type or shape.

    Warns:
        UserWarning: A batch of one has no partner and is not mixed.

    Convention:
        Image i is mixed with image i - 1 of the batch, and so never with itself. In a `VideoSequential`, frame t of a
        clip is mixed with frame t of the clip before. `_params["cow_masks"]` holds the masks: pass `params=` to apply
        them again. Move the augmentation to the images' device by `.to(device)`: then it draws there, and waits for
        nothing. `transform_matrix` and `inverse` raise RuntimeError, as for every mix augmentation of kornia.

    Example:
        >>> cowmix = RandomCowMix(sigma=(4, 16), data_keys=["input", "mask", "class"])
        >>> images, masks = torch.rand(4, 3, 64, 64), torch.randint(0, 9, (4, 1, 64, 64))
        >>> images, masks, labels = cowmix(images, masks, torch.tensor([0, 1, 2, 3]))
        >>> images.shape, masks.dtype, labels.shape
        (torch.Size([4, 3, 64, 64]), torch.int64, torch.Size([4, 3]))
    """

    def __init__(
        self,
        sigma: arguments.Values = (4, 16),
        proportion: arguments.Values = 0.5,
        *,
        spacing: Sequence[float] | None = None,
        same_on_batch: bool = False,
        p: float = 1.0,
        keepdim: bool = False,
        data_keys: list[Any] | None = None,
    ) -> None:
        arguments.setting("p", p)
        super().__init__(p=p, p_batch=1.0, same_on_batch=same_on_batch, keepdim=keepdim, data_keys=data_keys)
        self._param_generator = CowMaskGenerator(CowMix(sigma, proportion, spacing=spacing))

    # kornia's own three methods would read the gate back from the device, and blend by it once more.
    def transform_input(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:  # noqa: A002, ARG002
        """Mix images. (C, H, W) and (H, W) become (1, C, H, W), unless `keepdim`."""
        images = self.transform_tensor(input)
        if _clips(params) == 1 and not torch.compiler.is_compiling():  # which cannot trace a warning
            text = "RandomCowMix mixes the images of a batch: a batch of one is not mixed"
            warnings.warn(text, stacklevel=5)  # the line that calls the module, if it is called alone
        return self.transform_output_tensor(_mix(images, params), input.shape)

    def transform_mask(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:  # noqa: A002, ARG002
        """Mix masks (B, X, H, W). Unless `keepdim`, (B, H, W) becomes (B, 1, H, W), as in kornia's sequences."""
        mixed = _mix(input, params)
        return mixed if self.keepdim else mixed.reshape(len(params["cow_masks"]), -1, *mixed.shape[-2:])

    def transform_class(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:  # noqa: A002, ARG002
        """Return labels (B,) as (B, 3): own, partner's, and the partner's share of the image, or of the clip."""
        n = _clips(params)
        if input.shape != (n,):
            raise ValueError(f"class labels must be class indices of shape ({n},), got {tuple(input.shape)}")
        share = _partners(params, input.device).reshape(n, -1).mean(1, dtype=torch.float32)
        partner = torch.where(share > 0, input.roll(1, 0), input)
        return torch.stack([input.to(share.dtype), partner.to(share.dtype), share], 1)

    def _validate_data_key(self, key: DataKey) -> None:
        if key not in (DataKey.INPUT, DataKey.MASK, DataKey.CLASS):
            raise NotImplementedError(
                f"RandomCowMix mixes input, mask and class, got {key.name.lower()}: leave boxes and keypoints out, "
                "since a mixed image shows parts of what both images hold"
            )


class RandomCowOut(IntensityAugmentationBase2D):
    """Erase parts of images by cow masks. Masks, boxes, keypoints and class labels pass through.

    Args:
        sigma: Pixels, log-uniform in a range for each image, as for `cowmask.CowOut`.
        proportion: Expected fraction *kept*, in [0, 1]: a number, or a range to draw from uniformly for each image.
        spacing: As for `cowmask.CowOut`.
        value: What erased pixels become: a number, or a tensor such as (C, 1, 1).
        same_on_batch: Draw one mask, and whether to erase, for the whole batch.
        p: Probability that anything is erased from an image, drawn once for each image; 0.5, as for `RandomErasing`.
        keepdim: Return images with as many axes as came, rather than (B, C, H, W).

    Raises:
        TypeError, ValueError: A setting is out of range, or a tensor has the wrong type or shape.

    Convention:
        `RandomErasing` also erases masks, to 0; this does not. `_params["cow_masks"]` is True where an image is kept,
        if `_params["batch_prob"]` says that it was erased from at all: what a loss needs, and what `params=` replays.
        `transform_matrix` is the identity, and a sequence's `inverse` leaves what was erased.

    Example:
        >>> cowout = RandomCowOut(sigma=(4, 16), p=1.0)
        >>> erased = cowout(torch.rand(4, 3, 64, 64))
        >>> erased.shape, cowout._params["cow_masks"].shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 1, 64, 64]))
    """

    def __init__(
        self,
        sigma: arguments.Values = (4, 16),
        proportion: arguments.Values = (0.0, 1.0),
        *,
        spacing: Sequence[float] | None = None,
        value: float | Tensor = 0.0,
        same_on_batch: bool = False,
        p: float = 0.5,
        keepdim: bool = False,
    ) -> None:
        arguments.setting("p", p)
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator = CowMaskGenerator(CowOut(sigma, proportion, spacing=spacing, fill=value))
        self.flags = {"value": value}

    def apply_transform(
        self,
        input: Tensor,  # noqa: A002
        params: Params,
        flags: dict[str, Any],
        transform: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Erase from all images; kornia's base then puts back those that `batch_prob` spares."""
        value = flags["value"]
        value = value.to(input.device) if isinstance(value, Tensor) else value
        return erase(input, params["cow_masks"].to(input.device), value)


class AugmentationSequential(containers.AugmentationSequential):
    """kornia's `AugmentationSequential`, which also mixes class labels.

    kornia's own refuses the data key "class" beside a mix augmentation. If that stands in a nested sequence, kornia's
    own returns the labels unmixed.

    Example:
        >>> from kornia.augmentation import RandomHorizontalFlip
        >>> keys = ["input", "mask", "class"]
        >>> augment = AugmentationSequential(RandomHorizontalFlip(), RandomCowMix(), data_keys=keys)
        >>> images, masks = torch.rand(4, 3, 64, 64), torch.randint(0, 9, (4, 1, 64, 64))
        >>> images, masks, labels = augment(images, masks, torch.tensor([0, 1, 2, 3]))
        >>> images.shape, masks.dtype, labels.shape
        (torch.Size([4, 3, 64, 64]), torch.int64, torch.Size([4, 3]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transform_op = _Operations(self.data_keys)


class _Operations(ops.AugmentationSequentialOps):
    def _get_op(self, data_key: DataKey) -> Any:
        return _ClassOperations if data_key == DataKey.CLASS else super()._get_op(data_key)


class _ClassOperations(ops.ClassSequentialOps):
    @classmethod
    def transform(cls, input: Tensor, module: Any, param: Any, extra_args: Any = None) -> Tensor:  # noqa: A002
        if isinstance(module, RandomCowMix):
            return module.transform_class(input, param.data, module.flags)
        if isinstance(module, containers.ImageSequentialBase):
            for inner in param.data:
                input = cls.transform(input, module.get_submodule(inner.name), inner)  # noqa: A001
            return input
        return super().transform(input, module, param, extra_args)


def _partners(params: Params, device: torch.device) -> Tensor:
    """Return masks (B, 1, H, W), True where the partner shows: nowhere in images that kornia's gate spares."""
    selected = (params["batch_prob"] > 0.5).view(-1, 1, 1, 1)
    return (params["cow_masks"] & selected).to(device)


def _clips(params: Params) -> int:
    """Return the number of images, or that of the clips which a VideoSequential has folded into the batch."""
    clips = params.get("video_batch_size")
    return len(params["cow_masks"]) if clips is None else int(clips)


def _mix(x: Tensor, params: Params) -> Tensor:
    """Mix images or masks, (B, X, H, W) or (B, H, W), each with the one before it."""
    masks, clips = _partners(params, x.device), _clips(params)
    if clips < 2:
        return x.clone()
    frames = len(masks) // clips
    (mixed,) = mix_batch([x], None if frames == 1 else [x.roll(frames, 0)], masks)
    return mixed
