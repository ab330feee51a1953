"""The five methods, their settings, and the settings that the trials try."""

import random
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

from classification.data import Dataset
from cowmask import CowMix, CowOut, CutMix, MixUp

Method = Literal["none", "mixup", "cutmix", "cowout", "cowmix"]
Arrangement = Literal["supervised", "mean-teacher"]
METHODS: tuple[Method, ...] = get_args(Method)
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)


@dataclass(frozen=True)
class Settings:
    """Settings of one training. A method reads those that it has a use for."""

    learning_rate: float = 3e-3  # of AdamW, at the start
    weight_decay: float = 0.05
    p: float = 1.0  # probability that an image is changed
    alpha: float = 1.0  # mixup: of the Beta distribution
    area: tuple[float, float] = (0.0, 1.0)  # cutmix: fraction taken from the partner
    sigma: tuple[float, float] = (1 / 8, 1 / 4)  # cow masks: in sides of the image
    proportion: tuple[float, float] = (0.5, 0.5)  # cowmix: taken from the partner; cowout: kept
    weight: float = 10.0  # mean teacher: of the consistency loss
    threshold: float = 0.9  # mean teacher: probability above which the teacher is sure of an image


SIGMAS = ((1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 8, 1 / 2))
# What the trials try.
COMMON: dict[str, tuple[Any, ...]] = {"learning_rate": (1e-3, 2e-3, 4e-3, 8e-3), "weight_decay": (1e-3, 0.01, 0.1, 0.5)}
TEACHING: dict[str, tuple[Any, ...]] = {"weight": (3.0, 10.0, 30.0, 100.0), "threshold": (0.0, 0.8, 0.95)}
OWN: dict[Method, dict[str, tuple[Any, ...]]] = {
    "none": {},
    "mixup": {"p": (0.5, 1.0), "alpha": (0.1, 0.3, 1.0)},
    "cutmix": {"p": (0.5, 1.0), "area": ((0.0, 1.0), (0.0, 0.5), (0.5, 0.5))},
    "cowout": {"p": (0.5, 1.0), "sigma": SIGMAS, "proportion": ((0.0, 1.0), (0.5, 1.0), (0.75, 0.75))},
    "cowmix": {"p": (0.5, 1.0), "sigma": SIGMAS, "proportion": ((0.0, 1.0), (0.0, 0.5), (0.5, 0.5))},
}


def values_of(arrangement: Arrangement, method: Method) -> dict[str, tuple[Any, ...]]:
    """Return the settings that a method reads, and the values to try of each."""
    return COMMON | (TEACHING if arrangement == "mean-teacher" else {}) | OWN[method]


def trials(arrangement: Arrangement, method: Method, n: int) -> list[Settings]:
    """Deal out n settings to try: of each setting, every value equally often (if n is a multiple of their number).

    Of 1,000 deals, the first that repeats the fewest settings is returned.
    """
    return max((_dealt(values_of(arrangement, method), n, seed) for seed in range(1000)), key=lambda one: len(set(one)))


def _dealt(values: dict[str, tuple[Any, ...]], n: int, seed: int) -> list[Settings]:
    source = random.Random(seed)
    columns = [source.sample([options[i % len(options)] for i in range(n)], n) for options in values.values()]
    return [Settings(**dict(zip(values, row, strict=True))) for row in zip(*columns, strict=True)]


class Unchanged(nn.Module):
    """Return images and labels as they are."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return what came."""
        return tensors


def build(method: Method, settings: Settings, data: Dataset) -> nn.Module:
    """Return the module that takes images and any number of labels, and returns as many tensors."""
    p, classes = settings.p, data.classes
    low, high = settings.sigma
    sigma = low * data.side, high * data.side  # pixels
    if method == "mixup":
        return MixUp(settings.alpha, num_classes=classes, p=p)
    if method == "cutmix":
        return CutMix(settings.area, num_classes=classes, p=p)
    if method == "cowmix":
        return CowMix(sigma, settings.proportion, num_classes=classes, p=p)
    if method == "cowout":
        mean_colour = data.train.pixels.float().mean((0, 2, 3)).view(-1, 1, 1) / data.largest
        return CowOut(sigma, settings.proportion, fill=mean_colour, p=p)
    return Unchanged()


# The best of twelve trials with 50 labelled digits: docs/results/classification-digits.json.
TUNED: dict[tuple[Arrangement, Method], Settings] = {
    ("supervised", "none"): Settings(learning_rate=0.004, weight_decay=0.1),
    ("supervised", "mixup"): Settings(learning_rate=0.004, weight_decay=0.01, p=1.0, alpha=0.3),
    ("supervised", "cutmix"): Settings(learning_rate=0.002, weight_decay=0.1, p=0.5, area=(0.5, 0.5)),
    ("supervised", "cowout"): Settings(
        learning_rate=0.002, weight_decay=0.1, p=0.5, sigma=(0.125, 0.25), proportion=(0.0, 1.0)
    ),
    ("supervised", "cowmix"): Settings(
        learning_rate=0.008, weight_decay=0.5, p=0.5, sigma=(0.125, 0.25), proportion=(0.5, 0.5)
    ),
    ("mean-teacher", "none"): Settings(learning_rate=0.008, weight_decay=0.1, weight=10.0, threshold=0.0),
    ("mean-teacher", "mixup"): Settings(
        learning_rate=0.004, weight_decay=0.001, weight=30.0, threshold=0.95, p=0.5, alpha=1.0
    ),
    ("mean-teacher", "cutmix"): Settings(
        learning_rate=0.008, weight_decay=0.1, weight=10.0, threshold=0.0, p=0.5, area=(0.5, 0.5)
    ),
    ("mean-teacher", "cowout"): Settings(
        learning_rate=0.008,
        weight_decay=0.5,
        weight=3.0,
        threshold=0.8,
        p=1.0,
        sigma=(0.125, 0.25),
        proportion=(0.5, 1.0),
    ),
    ("mean-teacher", "cowmix"): Settings(
        learning_rate=0.002,
        weight_decay=0.001,
        weight=100.0,
        threshold=0.8,
        p=0.5,
        sigma=(0.25, 0.5),
        proportion=(0.0, 1.0),
    ),
}
