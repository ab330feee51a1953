"""Data and networks for the tests of docs/recipes.md.

Image i has the value i everywhere, its label is i, and so are its targets. So its pixels tell what an image was mixed
from, and what its labels must be.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.pages import run

PAGE = "docs/recipes.md"
CLASSES = 10
SIZE = (16, 24)
Names = dict[str, Any]


def recipe(section: str, **names: Any) -> Names:
    """Run the page's blocks under a heading, with the names that they take for granted; return all names."""
    return run(PAGE, names, section)


def data(n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (n, 3, *SIZE), labels (n,) and targets (n, *SIZE)."""
    labels = torch.arange(n)
    targets = labels.view(n, 1, 1).expand(n, *SIZE).clone()
    return targets[:, None].expand(n, 3, *SIZE).float(), labels, targets


def are_mixed(images: Tensor) -> Tensor:
    """Return whether each image has pixels of several, (B,)."""
    return images.flatten(1).amax(1) != images.flatten(1).amin(1)


def assert_labels_fit(images: Tensor, labels: Tensor) -> None:
    shares = F.one_hot(images[:, 0].long(), CLASSES).float().mean((1, 2))
    assert torch.allclose(labels, shares, atol=1e-6)


def assert_targets_fit(images: Tensor, targets: Tensor) -> None:
    assert torch.equal(targets, images[:, 0].long())


class Spy:
    """Keep what a callable returns."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.results: list[Any] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.results.append(self.call(*arguments, **options))
        return self.results[-1]


class Classifier(nn.Module):
    """Classify images, and keep what was seen in training and in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))
        self.layers(data(2)[0])
        self.seen: dict[bool, list[Tensor]] = {True: [], False: []}

    def forward(self, images: Tensor) -> Tensor:
        self.seen[self.training].append(images)
        logits: Tensor = self.layers(images / CLASSES)
        return logits


class Readers(nn.Module):
    """Predict the value of each pixel plus `shift`, more confidently for larger values."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift, self.scale = shift, nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        values = images[:, 0].long()
        return self.scale * (values + 1)[:, None] * F.one_hot((values + self.shift) % CLASSES, CLASSES).movedim(-1, 1)


def segmenter() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, CLASSES, 1))
