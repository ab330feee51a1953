"""examples/segmentation/evaluation.py: scores, windows, and memory."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from segmentation.config import Config
from segmentation.data.datasets import VOID, Dataset
from segmentation.evaluation import Tally, evaluate, segment, windows
from tests.splits import MadeSplit, numbered


def test_score_is_a_confusion_matrixs_and_void_does_not_count() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, (3, 9, 7)), rng.integers(0, 4, (3, 9, 7))
    labels[0, :3] = VOID
    counted = labels != VOID
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (labels[counted], predictions[counted]), 1)
    iou = confusion.diagonal() / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())
    tally = Tally(4)
    for prediction, label in zip(torch.from_numpy(predictions).byte(), torch.from_numpy(labels).byte(), strict=True):
        tally.add(prediction[None], label[None])
    result = tally.scores()
    assert result.per_class == pytest.approx(iou.tolist(), abs=1e-6)
    assert result.miou == pytest.approx(iou.mean(), abs=1e-6)
    one, same = torch.zeros(1, 4, 4, dtype=torch.uint8), Tally(3)
    same.add(one, one)
    assert same.scores().miou == 1  # classes that are nowhere do not count


class Redness(nn.Module):
    """Predict class 1 where the image is redder than a half; record the largest batch."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of two classes."""
        self.largest = max(self.largest, images.shape[0])
        red = images[:, :1] * 4 - 2
        return torch.cat([-red, red], 1)


@pytest.mark.parametrize("size", [(40, 60), (33, 100)])
@pytest.mark.parametrize("window", [(32, 48), (64, 64)])
def test_windows_see_what_the_whole_image_shows(size: tuple[int, int], window: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    whole = segment(Redness(), images).softmax(1)
    assert torch.allclose(segment(Redness(), images, window), whole, atol=1e-6)


def test_windows_overlap_by_a_third_and_reach_both_ends() -> None:
    assert windows(10, 10) == windows(5, 10) == [0]
    for length, window in ((100, 30), (31, 30), (2048, 713)):
        starts = windows(length, window)
        assert starts[0] == 0
        assert starts[-1] + window == length
        assert max(np.diff(starts)) <= window * 2 / 3 + 1
    assert windows(100, 30) == [0, 18, 35, 52, 70]


def dataset(split: MadeSplit, full_size: tuple[int, int] | None = None) -> Dataset:
    return Dataset("numbers", tuple("abcd"), ("#000000",) * 4, split, split, split, full_size=full_size)


def test_scores_at_the_size_trained_on_and_at_the_published_one() -> None:
    label, zero = numbered(5, (32, 32)).label, torch.zeros(64, 64, dtype=torch.uint8)
    half = [torch.full((3, 32, 32), value, dtype=torch.uint8) for value in (0, 255)]
    split = MadeSplit(5, lambda index: half[index % 4 == 1], label)
    accelerator = Accelerator(cpu=True)
    config = Config(size=(32, 32))
    state = torch.get_rng_state()
    found = evaluate(Redness(), dataset(split), split, config, accelerator, keep=[1, 4])
    assert torch.equal(torch.get_rng_state(), state)  # scoring draws no random numbers
    # Labels are 0, 1, 2, 3, 0 and predictions 0, 1, 0, 0, 0: two right of four, one of one, none.
    assert found.scores.per_class == [0.5, 1, 0, 0]
    assert found.full is None
    assert found.maps.keys() == {1, 4}
    assert (found.maps[1] == 1).all()
    assert found.maps[4].shape == (32, 32)
    split = MadeSplit(5, lambda index: half[index % 4 == 1], label, full=lambda index: label(index).repeat(2, 2))
    assert evaluate(Redness(), dataset(split, (64, 64)), split, config, accelerator).full == found.scores
    split = MadeSplit(5, lambda index: half[index % 4 == 1], label, full=lambda _: zero)
    both = evaluate(Redness(), dataset(split, (64, 64)), split, config, accelerator)
    assert both.scores == found.scores
    assert both.full is not None
    assert both.full.per_class[0] == pytest.approx(0.8)


def test_images_of_a_group_are_scored_by_themselves_too() -> None:
    half = [torch.full((3, 32, 32), value, dtype=torch.uint8) for value in (0, 255)]
    split = MadeSplit(5, lambda index: half[index % 4 == 1], numbered(5, (32, 32)).label)
    streets = dict(zip(split.names, ("b", "a", "b", "a", "b"), strict=True))
    grouped = replace(dataset(split), group=streets.__getitem__)
    config, accelerator = Config(size=(32, 32)), Accelerator(cpu=True)
    found = evaluate(Redness(), grouped, split, config, accelerator)
    # Labels are 1 and 3 in a, where 1 and 0 are predicted; 0, 2 and 0 in b, where only 0 is.
    assert list(found.groups) == ["a", "b"]
    assert found.groups["a"].per_class == pytest.approx([0, 1, float("nan"), 0], nan_ok=True)
    assert found.groups["b"].per_class == pytest.approx([2 / 3, float("nan"), 0, float("nan")], nan_ok=True)
    alone = evaluate(Redness(), dataset(split), split, config, accelerator)
    assert alone.groups == {}
    assert found.scores == alone.scores


def test_images_of_any_size_are_scored_as_they_are() -> None:
    sizes = [(32, 40), (32, 40), (50, 33), (32, 40), (64, 64), (64, 64)]
    images, labels = ([torch.zeros(*more, *size, dtype=torch.uint8) for size in sizes] for more in ([3], []))
    split = MadeSplit(6, images.__getitem__, labels.__getitem__)
    network = Redness()
    found = evaluate(network, dataset(split), split, Config(size=(64, 64)), Accelerator(cpu=True), keep=range(6))
    assert [found.maps[i].shape for i in range(6)] == sizes
    assert found.scores.per_class[0] == 1
    assert network.largest == 2


def test_memory_does_not_grow_with_the_data_set() -> None:
    """Of a hundred images, no more than two batches are alive at a time."""
    alive = most = 0

    def end() -> None:
        nonlocal alive
        alive -= 1

    def image(_: int) -> Tensor:
        nonlocal alive, most
        tensor = torch.zeros(3, 32, 32, dtype=torch.uint8)
        weakref.finalize(tensor, end)
        alive += 1
        most = max(most, alive)
        return tensor

    split = MadeSplit(100, image, numbered(100, (32, 32)).label)
    found = evaluate(Redness(), dataset(split), split, Config(size=(32, 32)), Accelerator(cpu=True), keep=[3])
    assert found.maps.keys() == {3}
    assert 1 <= most <= 16
