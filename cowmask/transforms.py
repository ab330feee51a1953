"""Mixing and erasing transforms: modules that hold ranges, draw a mask per image and apply it.

French et al. 2019 (CowMix, CowOut), Yun et al. 2019 (CutMix), DeVries & Taylor 2017 (Cutout), Zhang et al. 2018
(mixup).

Every transform draws with `sample(images, generator)` and applies with `forward(images, *targets)`; there is no state
between calls, and train() and eval() change nothing.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from cowmask import _checks, _tensors
from cowmask.masks import box_masks, constant_masks, cow_masks
from cowmask.mixing import erase, fill_like, mix_labels, mix_together, one_hot


class _Transform(nn.Module):
    @abstractmethod
    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one mask per image, (B, 1, *size), on the device of the images (B, C, *size)."""

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in inspect.signature(type(self)).parameters)


class _Mixer(_Transform):
    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.num_classes = None if num_classes is None else _checks.count("num_classes", num_classes)

    def forward(
        self,
        images: Tensor,
        *targets: Tensor,
        partner: Tensor | Sequence[Tensor] | None = None,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Mix images, and their targets with the same mask.

        Args:
            images: (B, C, *size), 1 to 3 spatial axes.
            targets: Dense targets, batch first and last axes equal to the images' size, with one axis between or
                none, of any dtype: selected, never blended (MixUp blends floating ones and refuses the rest). Or
                labels, (B,) integer (needs `num_classes`) or (B, K) floating: mixed by the area measured.
            partner: What to mix in, as many tensors as are mixed, of the same shapes. Without it image i is mixed
                with image i - 1 of the batch.
            mask: Masks to apply, (B, 1, *size), in place of drawn ones.
            generator: Source of randomness, on the device of the images; torch's default generator without it.

        Returns:
            The mixed tensors, as many as came: one tensor, or a tuple.

        Raises:
            TypeError, ValueError: A tensor is of the wrong type or shape; a batch of one comes without `partner`.
        """
        _checks.draw_device(generator, _tensors.images(images).device)
        tensors = (images, *(_checks.tensor(f"targets[{position}]", target) for position, target in enumerate(targets)))
        partners = _tensors.partners(partner, tensors)
        are_labels = [False] + [_tensors.is_labels(position, target, images) for position, target in enumerate(targets)]
        pairs = [
            (self._prepared(x, is_label), None if other is None else self._prepared(other, is_label))
            for x, other, is_label in zip(tensors, partners, are_labels, strict=True)
        ]
        mask = self.sample(images, generator) if mask is None else _tensors.image_masks(mask, images)
        dense, others = zip(
            *(pair for pair, is_label in zip(pairs, are_labels, strict=True) if not is_label), strict=True
        )
        mixed_dense = iter(mix_together(dense, None if partner is None else others, mask))
        mixed = tuple(
            mix_labels(x, other, mask) if is_label else next(mixed_dense)
            for (x, other), is_label in zip(pairs, are_labels, strict=True)
        )
        return mixed[0] if len(mixed) == 1 else mixed

    def _prepared(self, x: Tensor, is_label: bool) -> Tensor:
        """Return x as it can be mixed: labels as (B, K)."""
        if not is_label:
            return x
        if x.ndim == 1 and self.num_classes is None:
            raise ValueError(f"labels of shape (B,) need {type(self).__name__}(num_classes=...), got {tuple(x.shape)}")
        if x.ndim == 2 and self.num_classes not in (None, x.shape[1]):
            raise ValueError(f"labels (B, K) must be of num_classes={self.num_classes} classes, got {tuple(x.shape)}")
        return x if x.ndim == 2 or self.num_classes is None else one_hot(x, self.num_classes)


class _Eraser(_Transform):
    fill: float | Tensor

    def __init__(self, fill: float | Tensor) -> None:
        super().__init__()
        if isinstance(fill, Tensor):
            self.register_buffer("fill", fill, persistent=False)  # follows .to(device)
        else:
            self.fill = _checks.number("fill", fill, _checks.Bounds(), _checks.FILL)

    def forward(
        self, images: Tensor, *targets: Any, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Any:
        """Erase parts of images; targets pass through.

        Args:
            images: (B, C, *size), 1 to 3 spatial axes.
            targets: Anything; returned as it is.
            mask: Masks to apply, (B, 1, *size), True = kept, in place of drawn ones. Draw them with `sample` to pass
                them to `consistency_loss` too.
            generator: Source of randomness, on the device of the images; torch's default generator without it.

        Returns:
            The erased images, or a tuple of them and the targets.

        Raises:
            TypeError, ValueError: A tensor is of the wrong type or shape.
        """
        _checks.draw_device(generator, _tensors.images(images).device)
        fill = fill_like(images, self.fill)
        mask = self.sample(images, generator) if mask is None else _tensors.image_masks(mask, images)
        return (erase(images, mask, fill), *targets) if targets else erase(images, mask, fill)


@final
class CowMix(_Mixer):
    """Mix images by cow masks.

    Args:
        sigma: As for `cow_masks`: pixels, log-uniform in a range for each image. The paper's is 4-16 at 480x360 and
            twice that for images with larger features; scale it with the shorter side.
        proportion: Expected fraction taken from the partner, in [0, 1]. The paper's is 0.5.
        spacing: As for `cow_masks`.
        num_classes: Number of classes of integer labels (B,).

    Reference:
        French et al. 2019, section 3.4 and Listing 3.

    Example:
        >>> images, targets = torch.rand(4, 3, 64, 64), torch.randint(0, 9, (4, 64, 64))
        >>> images, targets = CowMix()(images, targets)
        >>> images.shape, targets.shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 64, 64]))
    """

    def __init__(
        self,
        sigma: _checks.Values = (4, 16),
        proportion: _checks.Values = 0.5,
        *,
        spacing: Sequence[float] | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(num_classes)
        _checks.cow_settings(sigma, proportion, spacing)
        self.sigma, self.proportion, self.spacing = _plain(sigma), _plain(proportion), spacing

    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw bool masks (B, 1, *size), True = taken from the partner, on the device of the images."""
        return _sample(cow_masks, images, generator, self.sigma, self.proportion, spacing=self.spacing)


@final
class CowOut(_Eraser):
    """Erase parts of images by cow masks.

    Args:
        sigma: As for `cow_masks`: pixels, log-uniform in a range for each image.
        proportion: Expected fraction *kept* (the paper's word), in [0, 1]; uniform in a range for each image.
        spacing: As for `cow_masks`.
        fill: Put where the image is erased: a number, or a tensor such as (C, 1, 1). 0 is the mean of a normalised
            image.

    Reference:
        French et al. 2019, section 3.4 and Listing 2.

    Example:
        >>> cowout, images = CowOut(sigma=(4, 16)), torch.rand(4, 3, 64, 64)
        >>> mask = cowout.sample(images)
        >>> cowout(images, mask=mask).shape, mask.shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 1, 64, 64]))
    """

    def __init__(
        self,
        sigma: _checks.Values = (4, 16),
        proportion: _checks.Values = (0.0, 1.0),
        *,
        spacing: Sequence[float] | None = None,
        fill: float | Tensor = 0.0,
    ) -> None:
        super().__init__(fill)
        _checks.cow_settings(sigma, proportion, spacing)
        self.sigma, self.proportion, self.spacing = _plain(sigma), _plain(proportion), spacing

    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw bool masks (B, 1, *size), True = kept, on the device of the images."""
        return _sample(cow_masks, images, generator, self.sigma, self.proportion, spacing=self.spacing)


@final
class CutMix(_Mixer):
    """Mix images by box masks.

    Args:
        area: Fraction taken from the partner, in [0, 1], as for `box_masks`.
        aspect, n_boxes, clip: As for `box_masks`. The original CutMix is `area=(0, 1), aspect=height / width,
            clip=True`.
        num_classes: Number of classes of integer labels (B,).

    Reference:
        French et al. 2019, section 3.3 and Listing 3; Yun et al. 2019.

    Example:
        >>> images, labels = CutMix(num_classes=10)(torch.rand(4, 3, 32, 32), torch.tensor([1, 2, 3, 4]))
        >>> images.shape, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

    def __init__(
        self,
        area: _checks.Values = 0.5,
        aspect: float | None = None,
        *,
        n_boxes: int = 1,
        clip: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(num_classes)
        _checks.box_settings(area, aspect, n_boxes, clip)
        self.area, self.aspect, self.n_boxes, self.clip = _plain(area), aspect, n_boxes, clip

    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw bool masks (B, 1, *size), True = taken from the partner, on the device of the images."""
        return _sample(box_masks, images, generator, self.area, self.aspect, n_boxes=self.n_boxes, clip=self.clip)


@final
class CutOut(_Eraser):
    """Erase boxes from images.

    Args:
        area: Fraction *erased*, in [0, 1], as for `box_masks` (`CowOut.proportion` is the fraction kept).
        aspect, n_boxes, clip: As for `box_masks`. The original Cutout is a square: `aspect=1, clip=True`.
        fill: Put where the image is erased: a number, or a tensor such as (C, 1, 1).

    Reference:
        French et al. 2019, section 3.3 and Listing 2; DeVries & Taylor 2017.

    Example:
        >>> CutOut(area=0.25)(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        area: _checks.Values = (0.0, 1.0),
        aspect: float | None = None,
        *,
        n_boxes: int = 1,
        clip: bool = False,
        fill: float | Tensor = 0.0,
    ) -> None:
        super().__init__(fill)
        _checks.box_settings(area, aspect, n_boxes, clip)
        self.area, self.aspect, self.n_boxes, self.clip = _plain(area), aspect, n_boxes, clip

    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw bool masks (B, 1, *size), True = kept, on the device of the images."""
        return ~_sample(box_masks, images, generator, self.area, self.aspect, n_boxes=self.n_boxes, clip=self.clip)


@final
class MixUp(_Mixer):
    """Blend images with one weight per image.

    Args:
        alpha: The partner's weight is Beta(alpha, alpha), above 0: near 0 or 1 for small alpha, uniform at 1.
        num_classes: Number of classes of integer labels (B,).

    Reference:
        Zhang et al. 2018; Verma et al. 2019 (ICT) for consistency training.

    Example:
        >>> images, probs = MixUp(alpha=0.2)(torch.rand(4, 3, 32, 32), torch.rand(4, 5, 32, 32))
        >>> images.shape, probs.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 5, 32, 32]))
    """

    def __init__(self, alpha: float = 1.0, *, num_classes: int | None = None) -> None:
        super().__init__(num_classes)
        self.alpha = _checks.number("alpha", alpha, _checks.POSITIVE)

    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the partner's weights (B, 1, 1, ...) float32 in [0, 1], on the device of the images."""
        _tensors.images(images)
        return constant_masks(len(images), images.ndim - 2, self.alpha, generator, images.device)

    def _prepared(self, x: Tensor, is_label: bool) -> Tensor:
        if not is_label and not x.dtype.is_floating_point:
            raise TypeError(
                f"MixUp blends: images and dense targets must be floating, got {x.dtype}: "
                "pass images.float(), and probabilities or one-hot for class indices"
            )
        return super()._prepared(x, is_label)


def _plain(values: _checks.Values) -> _checks.Values:
    return values.detach() if isinstance(values, Tensor) else values  # no parameter of the module


def _sample(
    draw: Callable[..., Tensor], images: Tensor, generator: torch.Generator | None, *args: Any, **options: Any
) -> Tensor:
    """Draw one mask per image, on the images' device."""
    size = _tensors.images(images).shape[2:]
    return draw(len(images), size, *args, **options, generator=generator, device=images.device)
