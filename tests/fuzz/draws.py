"""Calls of cow_masks and box_masks."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

import cowmask
from tests.fuzz.calls import Call
from tests.fuzz.values import (
    FLOATS,
    INTERPRETED,
    NAN,
    NOT_COUNTS,
    NOT_FLAGS,
    NOT_FRACTIONS,
    NOT_NUMBERS,
    NOT_VALUES,
    WIDE_FLOATS,
    bad_per_mask,
    laid_out,
    must,
    odd_tensors,
    same_bits,
    sizes,
    values,
)
from tests.reference import cow_mask


class Draw(Call):
    """A draw of n masks."""

    def fill_in(self) -> None:
        rng = self.rng
        self.may_take_a_generator()
        self.n, self.size = rng.randint(1, 4), sizes(rng, rng.randint(1, 3))
        self.arguments |= {"n": rng.choice((self.n, np.int64(self.n))), "size": rng.choice((tuple, list))(self.size)}
        self.arguments |= {"dtype": rng.choice((torch.bool, *FLOATS))}
        self.arguments |= rng.choice(({}, {"device": None}, {"device": "cpu"}, {"device": torch.device("cpu")}))
        self.bad |= {
            "n": NOT_COUNTS,
            "size": (64, "64", (), (2, 3, 4, 5), (4, 0), (4.0, 4), (2**70, 4), (-1, 4), None, (True, 4), {4, 5}),
            "dtype": (torch.int64, torch.complex64, torch.float8_e5m2, float, "bool", None),
            "device": ("gpu", 3.0, "cpu:x", object()),
        }

    def check(self) -> None:
        masks = self.make()
        must(masks.shape == (self.n, 1, *self.size), f"the shape is {tuple(masks.shape)}")
        must(masks.dtype == self.arguments["dtype"], f"the dtype is {masks.dtype}")
        must(type(masks) is Tensor and masks.device.type == "cpu", "the masks are no plain tensor on the CPU")
        must(((masks == 0) | (masks == 1)).all(), "a mask is neither 0 nor 1")
        must(same_bits(masks, self.make()), "the second time, a seed gives other masks")
        self.check_masks(masks != 0)

    @abstractmethod
    def check_masks(self, masks: Tensor) -> None:
        """Check bool masks."""


class CowMasks(Draw):
    """`cow_masks`, with given noise or without."""

    function = staticmethod(cowmask.cow_masks)

    def fill_in(self) -> None:
        super().fill_in()
        rng, half = self.rng, min(self.size) / 2
        self.arguments |= {
            "sigma": values(rng, self.n, 0.3, max(1.0, half)),
            "proportion": values(rng, self.n, 0.0, 1.0),
            "precision": rng.choice(("high", "highest")),
            "method": rng.choice(("auto", "spectral", "direct")),
        }
        noise = torch.randn(self.n, 1, *self.size, dtype=rng.choice(WIDE_FLOATS))
        of_sigma = (*NOT_VALUES, 0, -1, 1e-5, 1e6, (0, 4), *bad_per_mask(self.n))
        of_noise = (noise.long(), noise[0], *odd_tensors(noise))
        what = rng.choice(("noise", "coarse", "spacing", "nothing"))
        if what == "noise":
            self.arguments["noise"] = laid_out(rng, noise)
        elif what == "coarse" and half >= 1:
            self.arguments |= {"method": "coarse", "sigma": values(rng, self.n, 1.0, half)}
            of_sigma, of_noise = (*of_sigma, 0.5, half + 0.1), (*of_noise, noise)
        elif what == "spacing":
            self.arguments["spacing"] = tuple(rng.choice((0.5, 1, 2.0)) for _ in self.size)
        dims = len(self.size)
        self.bad |= {
            "sigma": of_sigma,
            "proportion": (*NOT_FRACTIONS, *bad_per_mask(self.n)),
            "spacing": (2, "11", (), (1,) * (dims + 1), (0,) * dims, (NAN,) * dims, ("1",) * dims),
            "noise": of_noise,
            "method": ("fft", None, 3),
            "precision": ("low", None, 3),
            "backend": ("cuda", None, 3),
        }
        if INTERPRETED and self.arguments["method"] == "spectral":
            self.arguments["backend"] = "triton"

    def check_masks(self, masks: Tensor) -> None:
        sigma, proportion, noise = (self.arguments.get(name) for name in ("sigma", "proportion", "noise"))
        if not isinstance(proportion, float):
            return
        if proportion in (0, 1):
            must((masks == bool(proportion)).all(), "the masks are not all True or all False")
        elif noise is not None and isinstance(sigma, float) and self.arguments["method"] == "direct":
            for mask, one in zip(masks[:, 0].numpy(), noise[:, 0].double().numpy(), strict=True):
                wrong = np.count_nonzero(mask != cow_mask(one, sigma, proportion))
                must(wrong <= 1 + 0.001 * one.size or one.size == 1, f"{wrong} pixels are not Listing 1's")


class BoxMasks(Draw):
    """`box_masks`."""

    function = staticmethod(cowmask.box_masks)

    def fill_in(self) -> None:
        super().fill_in()
        rng = self.rng
        self.arguments |= {
            "area": values(rng, self.n, 0.0, 1.0),
            "n_boxes": rng.choice((1, 1, 2, 5)),
            "clip": rng.choice((False, False, True)),
        }
        if len(self.size) == 2:
            self.arguments["aspect"] = rng.choice((None, 0.5, 1, 3.0, 100.0, 1e-3))
        self.bad |= {
            "area": (*NOT_FRACTIONS, *bad_per_mask(self.n)),
            "n_boxes": NOT_COUNTS,
            "clip": NOT_FLAGS,
            "aspect": (*NOT_NUMBERS, 0, -1, (1, 2), torch.ones(2)),
        }

    def check_masks(self, masks: Tensor) -> None:
        if self.arguments["n_boxes"] > 1:
            return
        area, axes = self.arguments["area"], range(2, masks.ndim)
        if isinstance(area, float) and area in (0, 1) and not self.arguments["clip"]:
            must((masks == bool(area)).all(), "the masks are not all True or all False")
        box = torch.ones_like(masks)
        for axis in axes:  # a box is the product of its shadows, each without a gap
            shadow = masks.any(tuple(other for other in axes if other != axis), keepdim=True)
            begins = (shadow.int().diff(dim=axis, prepend=torch.zeros_like(shadow.narrow(axis, 0, 1)).int()) > 0).sum(
                axis
            )
            must((begins <= 1).all(), "a box has a gap")
            box = box & shadow
        must(torch.equal(masks, box), "a mask is no box")
