"""Probes: each sends batches down a road, and looks at what comes out.

A probe returns what else there is to say, or "". It raises NoError where the road does not do it; an error of the
library's own means the same.
"""

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.compare.batches import IGNORE, VALUES, images, labels, maps, mean_value, probs, soft
from benchmarks.compare.roads import Road

TRIES = 20
ROUNDING = 1e-4
PIXEL = 2e-3  # an area may be rounded by two of the 960 pixels
Probe = Callable[[type[Road]], str]


class NoError(Exception):
    """What came out is not what was asked for; the message says what it was."""


class PartlyError(NoError):
    """What came out is a part of what was asked for."""


def integer_maps(road: type[Road]) -> str:
    """Segmentation maps, mixed by the masks of the images."""
    out = mixed(road, {"images": images(), "maps": maps()})
    need(not out["maps"].is_floating_point(), f"maps come out as {out['maps'].dtype}")
    need(same(VALUES[out["maps"].long().clamp(0, len(VALUES) - 1)], out["images"][:, 0]), "maps differ from the images")
    return ""


def ignored(road: type[Road]) -> str:
    """255 in segmentation maps."""
    out = mixed(road, {"images": images(), "maps": maps(ignore=True)})
    came = set(out["maps"].unique().tolist()) - {*range(len(VALUES)), IGNORE}
    need(not came, f"makes new values, such as {min(came, default=0):.4g}")
    need(same((out["maps"] == IGNORE).float(), out["images"][:, 2]), "255 is not where the images have it")
    return ""


def probability_maps(road: type[Road]) -> str:
    """Maps of probabilities, mixed by the masks of the images."""
    out = mixed(road, {"images": images(), "probs": probs()})
    need(same(mean_value(out["probs"]), out["images"][:, 1]), "maps differ from the images")
    return ""


def class_labels(road: type[Road]) -> str:
    """Integer labels become a weight for each class."""
    out = mixed(road, {"images": images(), "labels": labels()})["labels"]
    need(out.ndim == 2, "labels come out as they went in")
    need(same(out.sum(1), torch.ones(len(out))), "weights do not add up to 1")
    need(bool(((out > 0) & (out < 1)).any()), "every label is of one image alone")
    return ""


def soft_labels(road: type[Road]) -> str:
    """Labels (B, K) are averaged."""
    out = mixed(road, {"images": images(), "soft": soft()})["soft"]
    need(not same(out, soft()), "labels come out as they went in")
    need(same(out.sum(1), torch.ones(len(out))), "weights do not add up to 1")
    need(not all(any(same(row, old) for old in soft()) for row in out), "every label is of one image alone")
    return ""


def measured_labels(road: type[Road]) -> str:
    """The weights of labels are the shares of the pixels."""
    for _ in range(TRIES):
        out = mixed(road, {"images": images(), "labels": labels()})
        need(out["labels"].ndim == 2, "labels come out as they went in")
        value = out["images"][:, 0].flatten(1).mean(1)
        need(same(mean_value(out["labels"]), value, PIXEL), "the weights are not those of the pixels")
    return ""


def second_batch(road: type[Road]) -> str:
    """Another batch as partner."""
    half = len(VALUES) // 2
    out = road().with_partner({"images": images(half)}, {"images": images(half, first=half)})["images"]
    need(bool((out[:, 0] > VALUES[half - 1]).any()), "nothing of the other batch came out")
    return ""


def any_shape(road: type[Road]) -> str:
    """Regions that are not boxes."""
    for _ in range(TRIES):
        for region in regions(road):
            if not is_box(region) and not is_box(~region):
                return ""
    raise NoError("all regions are boxes")


def each_its_own(road: type[Road]) -> str:
    """A mask for each image, independent of the others."""
    shapes, corners = 1, 1  # the most in one batch
    for _ in range(TRIES):
        found = [region for region in regions(road) if region.any()]
        shapes = max(shapes, len({tuple(region.flatten().tolist()) for region in found}))
        corners = max(corners, len({tuple(region.nonzero()[0].tolist()) for region in found}))
    need(shapes > 1, "one mask for the whole batch")
    if corners == 1:
        raise PartlyError("all boxes of a batch begin at one corner")
    return ""


def p_of_each(road: type[Road]) -> str:
    """p is drawn for each image."""
    transform, shares = road(p=0.5), []
    for _ in range(TRIES):
        before = images()
        out = transform({"images": before.clone()})["images"]
        shares.append(changed(out, before).flatten(1).any(1).float().mean().item())
    need(shares.count(0) < 3, "drawn once for the whole batch")
    need(0.3 < float(np.mean(shares)) < 0.7, f"p=0.5 changes {np.mean(shares):.0%} of the images")
    return ""


def odd_batch(road: type[Road]) -> str:
    """The same object takes batches of 4, and then one of 3."""
    transform = road()
    for n in (4, 3):
        need(len(transform({"images": images(n)})["images"]) == n, "another number of images comes out")
    return ""


def batch_of_one(road: type[Road]) -> str:
    """A batch of one image, in an object that has seen none before."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outs = [road()({"images": images(1)})["images"] for _ in range(TRIES)]
    warned = any("not mixed" in str(warning.message) for warning in caught)
    is_mixed = any(not same(out, images(1)) for out in outs)
    return "" if is_mixed else "not mixed, and it warns" if warned else "not mixed, without a warning"


def own_generator(road: type[Road]) -> str:
    """Random numbers from a source of the road's own."""

    def drawn(seed: int) -> Tensor:
        return road(seed=seed)({"images": images()})["images"]

    before = states()
    one, same_seed, other_seed = drawn(1), drawn(1), drawn(2)
    need(states() == before, "moves random numbers that all share")
    need(same(one, same_seed), "a seed gives other masks the second time")
    need(not same(one, other_seed), "another seed gives the same masks")
    return ""


def replayed(road: type[Road]) -> str:
    """The same masks again."""
    reversed_images = images().flip(0)
    one, two = road().twice({"images": images()}, {"images": reversed_images})
    where = [changed(x["images"], before)[:, 0] for x, before in ((one, images()), (two, reversed_images))]
    need(bool(where[0].any()), "nothing was changed")
    need(same(where[0].float(), where[1].float()), "the masks differ")
    return ""


def mixed(road: type[Road], batch: dict[str, Tensor]) -> dict[str, Any]:
    """Return a batch that went down the road and was mixed."""
    for _ in range(TRIES):
        transform, given = road(), {name: x.clone() for name, x in batch.items()}
        out = transform(given)
        need(out.keys() == batch.keys(), f"only {', '.join(out)} come out")
        if not same(out["images"], batch["images"]):
            return out
    raise NoError("the images are not mixed")


def regions(road: type[Road]) -> list[Tensor]:
    """Return which pixels of each image are changed, bool (H, W)."""
    out = road()({"images": images()})["images"]
    return list(changed(out, images())[:, 0])


def is_box(region: Tensor) -> bool:
    """Tell whether a region (H, W) is a box."""
    return bool((region == region.any(1)[:, None] & region.any(0)).all())


def states() -> list[Any]:
    """Return the random states that all share."""
    legacy: Any = np.random.get_state()  # noqa: NPY002 - the libraries draw from it
    return [torch.get_rng_state().tolist(), legacy[1].tolist(), random.getstate()]


def changed(out: Tensor, before: Tensor) -> Tensor:
    """Return where a tensor differs from what it was, but for rounding."""
    return (out - before).abs() > ROUNDING


def same(found: Tensor, wanted: Tensor, tolerance: float = ROUNDING) -> bool:
    """Tell whether tensors agree."""
    return found.shape == wanted.shape and bool((found.float() - wanted.float()).abs().max() <= tolerance)


def need(condition: bool, otherwise: str) -> None:
    """Raise NoError with what else came out."""
    if not condition:
        raise NoError(otherwise)
