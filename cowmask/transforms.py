"""Mixing and erasing transforms: modules that hold ranges, draw a mask per image and apply it.

French et al. 2019 (CowMix, CowOut), Yun et al. 2019 (CutMix), DeVries & Taylor 2017 (Cutout), Zhang et al. 2018
(mixup).

Every transform draws with `sample(images, generator)` and applies with `forward(images, *targets)`. A transform keeps
no state between calls, and train() and eval() change nothing.
"""

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from cowmask._checks import arguments
from cowmask._transform import Eraser, Mixer
from cowmask.masks import box_masks, constant_masks, cow_masks


@final
class CowMix(Mixer):
    """Mix images by cow masks.

    Args:
        sigma: As for `cow_masks`: pixels, log-uniform in a range for each image. The paper takes 4-16 at 480x360, and
            twice that for images with larger features. Scale sigma with the shorter side.
        proportion: Expected fraction taken from the partner, in [0, 1]. The paper takes 0.5.
        spacing: As for `cow_masks`.
        num_classes: Number of classes of integer labels (B,).
        p: Probability that an image is mixed at all, drawn for each image.
        ndim: Spatial axes: 1 for signals (B, C, L), 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Reference:
        French et al. 2019, section 3.4 and Listing 3.

    Example:
        >>> import torch
        >>> images, targets = torch.rand(4, 3, 64, 64), torch.randint(0, 9, (4, 64, 64))
        >>> images, targets = CowMix()(images, targets)
        >>> images.shape, targets.shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 64, 64]))
    """

    _sigma: arguments.Values
    _proportion: arguments.Values

    def __init__(
        self,
        sigma: arguments.Values = (4, 16),
        proportion: arguments.Values = 0.5,
        *,
        spacing: Sequence[float] | None = None,
        num_classes: int | None = None,
        p: float = 1.0,
        ndim: int = 2,
    ) -> None:
        super().__init__(num_classes, p, ndim)
        self.sigma, self.proportion, self.spacing = sigma, proportion, spacing
        arguments.cow_settings(sigma, spacing)

    def _draw(self, n: int, size: Sequence[int], **where: Any) -> Tensor:
        return cow_masks(n, size, self._sigma, self._proportion, spacing=self.spacing, **where)


@final
class CowOut(Eraser):
    """Erase parts of images by cow masks.

    Args:
        sigma: As for `cow_masks`: pixels, log-uniform in a range for each image.
        proportion: Expected fraction *kept* (the paper's word), in [0, 1]: a number, or a range to draw from uniformly
            for each image.
        spacing: As for `cow_masks`.
        fill: What erased pixels become: a number, or a tensor such as (C, 1, 1). 0 is the mean of a normalised image.
        p: Probability that anything is erased from an image, drawn for each image.
        ndim: Spatial axes: 1 for signals (B, C, L), 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Reference:
        French et al. 2019, section 3.4 and Listing 2.

    Example:
        >>> import torch
        >>> cowout, images = CowOut(sigma=(4, 16)), torch.rand(4, 3, 64, 64)
        >>> mask = cowout.sample(images)
        >>> cowout(images, mask=mask).shape, mask.shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 1, 64, 64]))
    """

    _sigma: arguments.Values
    _proportion: arguments.Values

    def __init__(
        self,
        sigma: arguments.Values = (4, 16),
        proportion: arguments.Values = (0.0, 1.0),
        *,
        spacing: Sequence[float] | None = None,
        fill: float | Tensor = 0.0,
        p: float = 1.0,
        ndim: int = 2,
    ) -> None:
        super().__init__(fill, p, ndim)
        self.sigma, self.proportion, self.spacing = sigma, proportion, spacing
        arguments.cow_settings(sigma, spacing)

    def _draw(self, n: int, size: Sequence[int], **where: Any) -> Tensor:
        return cow_masks(n, size, self._sigma, self._proportion, spacing=self.spacing, **where)


@final
class CutMix(Mixer):
    """Mix images by box masks.

    Args:
        area: Fraction taken from the partner, in [0, 1], as for `box_masks`.
        aspect, n_boxes, clip: As for `box_masks`. The original CutMix is `area=(0, 1), aspect=height / width,
            clip=True`.
        num_classes: Number of classes of integer labels (B,).
        p: Probability that an image is mixed at all, drawn for each image.
        ndim: Spatial axes: 1 for signals (B, C, L), 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Reference:
        French et al. 2019, section 3.3 and Listing 3; Yun et al. 2019.

    Example:
        >>> import torch
        >>> images, labels = CutMix(num_classes=10)(torch.rand(4, 3, 32, 32), torch.tensor([1, 2, 3, 4]))
        >>> images.shape, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

    _area: arguments.Values
    _aspect: float | None

    def __init__(
        self,
        area: arguments.Values = 0.5,
        aspect: float | None = None,
        *,
        n_boxes: int = 1,
        clip: bool = False,
        num_classes: int | None = None,
        p: float = 1.0,
        ndim: int = 2,
    ) -> None:
        super().__init__(num_classes, p, ndim)
        arguments.box_settings(n_boxes, clip)
        self.area, self.aspect, self.n_boxes, self.clip = area, aspect, n_boxes, clip

    def _draw(self, n: int, size: Sequence[int], **where: Any) -> Tensor:
        return box_masks(n, size, self._area, self._aspect, n_boxes=self.n_boxes, clip=self.clip, **where)


@final
class CutOut(Eraser):
    """Erase boxes from images.

    Args:
        area: Fraction *erased*, in [0, 1], as for `box_masks` (`CowOut.proportion` is the fraction kept).
        aspect, n_boxes, clip: As for `box_masks`. The original Cutout is a square: `aspect=1, clip=True`.
        fill: What erased pixels become: a number, or a tensor such as (C, 1, 1).
        p: Probability that anything is erased from an image, drawn for each image.
        ndim: Spatial axes: 1 for signals (B, C, L), 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Reference:
        French et al. 2019, section 3.3 and Listing 2; DeVries & Taylor 2017.

    Example:
        >>> import torch
        >>> CutOut(area=0.25)(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 3, 32, 32])
    """

    _area: arguments.Values
    _aspect: float | None

    def __init__(
        self,
        area: arguments.Values = (0.0, 1.0),
        aspect: float | None = None,
        *,
        n_boxes: int = 1,
        clip: bool = False,
        fill: float | Tensor = 0.0,
        p: float = 1.0,
        ndim: int = 2,
    ) -> None:
        super().__init__(fill, p, ndim)
        arguments.box_settings(n_boxes, clip)
        self.area, self.aspect, self.n_boxes, self.clip = area, aspect, n_boxes, clip

    def _draw(self, n: int, size: Sequence[int], **where: Any) -> Tensor:
        return ~box_masks(n, size, self._area, self._aspect, n_boxes=self.n_boxes, clip=self.clip, **where)


@final
class MixUp(Mixer):
    """Blend images with one weight per image.

    Args:
        alpha: Above 0. The partner's weight is drawn from Beta(alpha, alpha): uniform at alpha 1, and near 0 or 1 for a
            small alpha.
        num_classes: Number of classes of integer labels (B,).
        p: Probability that an image is mixed at all, drawn for each image.
        ndim: Spatial axes: 1 for signals (B, C, L), 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Reference:
        Zhang et al. 2018; Verma et al. 2019 (ICT) for consistency training.

    Example:
        >>> import torch
        >>> images, probs = MixUp(alpha=0.2)(torch.rand(4, 3, 32, 32), torch.rand(4, 5, 32, 32))
        >>> images.shape, probs.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 5, 32, 32]))
    """

    _alpha: float

    def __init__(self, alpha: float = 1.0, *, num_classes: int | None = None, p: float = 1.0, ndim: int = 2) -> None:
        super().__init__(num_classes, p, ndim)
        self.alpha = alpha

    def _draw(self, n: int, size: Sequence[int], **where: Any) -> Tensor:
        return constant_masks(n, len(size), self._alpha, **where)

    def _as_mixable(self, x: Tensor, is_label: bool) -> Tensor:
        if not is_label and not x.dtype.is_floating_point:
            raise TypeError(
                f"MixUp blends: images and dense targets must be floating, got {x.dtype}: "
                "pass images.float(), and probabilities or one-hot for class indices"
            )
        return super()._as_mixable(x, is_label)
