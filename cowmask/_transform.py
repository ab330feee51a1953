"""What transforms share: `sample` draws masks, `forward` checks and applies them. A transform adds `_draw`."""

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cowmask._checks import arguments, batches
from cowmask._operators import are_inputs
from cowmask._subclasses import like
from cowmask.masks import random_rows
from cowmask.mixing import erase, mix_batch, one_hot


class Transform(nn.Module):
    _mixes: bool
    _p: float

    def __init__(self, p: float, ndim: int) -> None:
        super().__init__()
        self.p = p
        self.ndim = arguments.spatial_axes(ndim)

    def __setattr__(self, name: str, value: Any) -> None:
        """Check a number or range, and hold it twice: as `name`, as it was given, and as `_name`, for compiled code.

        torch.compile takes integers and tuples of a module for constants, but floats, alone or in a list, for inputs.
        """
        if name in arguments.SETTINGS:
            vars(self)[f"_{name}"] = arguments.setting(name, value)
            value = value.detach() if isinstance(value, Tensor) else value  # else nn.Module registers a Parameter
        super().__setattr__(name, value)

    @abstractmethod
    def _draw(self, n: int, size: Sequence[int], **where: Any) -> Tensor:
        """Draw masks (n, 1, *size) of `n` images that are all changed."""

    def sample(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one mask per image, on the device of the images.

        Args:
            images: (B, C, *size).
            generator: Source of randomness, on the device of the images. None takes torch's default generator.

        Returns:
            For CowMix and CutMix bool (B, 1, *size), True = taken from the partner. For CowOut and CutOut bool
            (B, 1, *size), True = kept. For MixUp the partner's weights (B, 1, 1, ...), float32 in [0, 1]. An image that
            is not changed, with probability 1 - p, has a mask that changes nothing.
        """
        batches.image_batch(images, self.ndim, generator, mixes=self._mixes)
        masks = self._draw(len(images), images.shape[2:], generator=generator, device=images.device)
        if not are_inputs(self._p) and self._p == 1:
            return masks
        changed = random_rows(masks, self._p, generator).view(-1, *[1] * (self.ndim + 1))
        return masks * changed if self._mixes else masks | ~changed

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in inspect.signature(type(self)).parameters)


class Mixer(Transform):
    _mixes = True

    def __init__(self, num_classes: int | None, p: float, ndim: int) -> None:
        super().__init__(p, ndim)
        self.num_classes = None if num_classes is None else arguments.positive_int("num_classes", num_classes)

    def forward(
        self,
        images: Tensor,
        *targets: Tensor,
        partner: Tensor | Sequence[Tensor] | None = None,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Mix images and their targets with the same mask.

        Args:
            images: (B, C, *size), with `ndim` spatial axes.
            targets: Dense targets (B, *size) or (B, X, *size), of any dtype, which are selected and never blended.
                (MixUp blends floating ones and refuses the rest.) Or labels, (B,) integer (needs `num_classes`) or
                (B, K) floating in [0, 1], which are mixed by the measured area. (Bounding boxes in [0, 1] cannot be
                told from labels: do not pass them.)
            partner: What to mix in: as many tensors as are mixed, of the same shapes. None mixes image i with image
                i - 1 of the batch, and leaves a batch of one as it is.
            mask: Masks to apply, (B, 1, *size), in place of drawn masks. `p` then plays no part.
            generator: Source of randomness, on the device of the images. None takes torch's default generator.

        Returns:
            A new tensor, or a tuple of as many as came. Each has the type of the tensor that it replaces (a tv_tensor
            stays one). Labels (B,) become plain (B, num_classes).

        Raises:
            TypeError, ValueError: A tensor has the wrong type or shape.

        Warns:
            UserWarning: A batch of one comes without `partner`. Compiled code does not warn.
        """
        tensors, partners, label_positions = batches.mixing_inputs(images, targets, partner, self.ndim, generator)
        tensors = [self._as_mixable(x, i in label_positions) for i, x in enumerate(tensors)]
        partners = partners and [self._as_mixable(x, i in label_positions) for i, x in enumerate(partners)]
        mask = None if mask is None else batches.image_masks(mask, images)
        if partners is None and len(images) == 1:
            _warn_of_one()
            mixed = [x.clone() for x in tensors]
        else:
            mask = self.sample(images, generator) if mask is None else mask
            mixed = mix_batch(tensors, partners, mask, label_positions)
        results = [like(y, x) if y.ndim == x.ndim else y for x, y in zip((images, *targets), mixed, strict=True)]
        return results[0] if len(results) == 1 else tuple(results)

    def _as_mixable(self, x: Tensor, is_label: bool) -> Tensor:
        """Return dense tensors as they are, and labels as (B, K)."""
        if not is_label:
            return x
        if x.ndim == 1 and self.num_classes is None:
            raise ValueError(f"labels of shape (B,) need {type(self).__name__}(num_classes=...), got {tuple(x.shape)}")
        if x.ndim == 2 and x.shape[1] > 1 and self.num_classes not in (None, x.shape[1]):
            raise ValueError(f"labels (B, K) must be of num_classes={self.num_classes} classes, got {tuple(x.shape)}")
        if x.ndim == 1 and self.num_classes is not None:
            return one_hot(x, self.num_classes)
        arguments.unit_range(x, "labels (B, K)", "only labels and dense targets can be mixed")
        return x


class Eraser(Transform):
    _mixes = False
    _fill: float | None  # None where the fill is a tensor

    def __init__(self, fill: float | Tensor, p: float, ndim: int) -> None:
        super().__init__(p, ndim)
        self.fill = fill

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "fill":
            super().__setattr__(name, value)
            return
        self._fill = arguments.fill_setting(value)
        if hasattr(self, name):
            del self.fill
        if isinstance(value, Tensor):
            self.register_buffer(name, value, persistent=False)  # follows .to(device)
        else:
            super().__setattr__(name, value)

    def forward(
        self, images: Tensor, *targets: Any, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Any:
        """Erase parts of images, and pass targets through.

        Args:
            images: (B, C, *size), with `ndim` spatial axes.
            targets: Anything; returned unchanged.
            mask: Masks to apply, (B, 1, *size), True = kept, in place of drawn masks; `p` then plays no part. Draw
                masks with `sample` first if `consistency_loss` needs them too.
            generator: Source of randomness, on the device of the images. None takes torch's default generator.

        Returns:
            The erased images, of the type of the images, or a tuple of them and the targets.

        Raises:
            TypeError, ValueError: A tensor has the wrong type or shape.
        """
        batches.image_batch(images, self.ndim, generator, mixes=False)
        fill = batches.fill_like(images, self.fill if self._fill is None else self._fill)
        mask = self.sample(images, generator) if mask is None else batches.image_masks(mask, images)
        return (erase(images, mask, fill), *targets) if targets else erase(images, mask, fill)


def _warn_of_one() -> None:
    if not torch.compiler.is_compiling():  # which cannot trace a warning
        warnings.warn(
            "a batch of one image has no partner in the batch, and is not mixed: pass partner=, or drop the last batch "
            "with DataLoader(drop_last=True)",
            stacklevel=5,  # the line that calls the module
        )
