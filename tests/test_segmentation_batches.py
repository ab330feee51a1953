"""examples/segmentation/data/batches.py: the order of images, and their crops."""

import pytest
import torch
from torch import Tensor

from segmentation.data.batches import (
    GREY,
    SUBSETS,
    Batches,
    Crops,
    Shard,
    labelled_images,
    listed_subset,
    shuffled_batches,
)
from segmentation.data.datasets import VOID, DataError, Dataset
from tests.splits import MadeSplit, numbered


def test_every_index_once_a_pass() -> None:
    batches = shuffled_batches(10, 4, seed=3)
    drawn = torch.cat([next(batches) for _ in range(15)]).view(6, 10)
    assert all(sorted(one.tolist()) == list(range(10)) for one in drawn)
    assert len({tuple(one.tolist()) for one in drawn}) == 6
    assert next(shuffled_batches(2, 5, seed=0)).shape == (5,)  # a set smaller than the batch


def dataset(n: int, unlabelled: tuple[int, ...] = ()) -> Dataset:
    split = numbered(n, (4, 4))
    return Dataset("numbers", ("a", "b", "c", "d"), ("red",) * 4, split, split, split, unlabelled=unlabelled)


def test_labelled_images_follow_from_the_seed() -> None:
    data = dataset(367)
    chosen = labelled_images(data, 30, 1)
    assert chosen == labelled_images(data, 30, 1) != labelled_images(data, 30, 2)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 30
    assert set(chosen) < set(labelled_images(data, 40, 1))
    # As before any image could be unlabelled: published tables were trained on these.
    assert chosen == sorted(torch.randperm(367, generator=torch.Generator().manual_seed(1))[:30].tolist())


def test_labelled_images_are_drawn_among_those_with_a_label_map() -> None:
    unlabelled = tuple(range(0, 367, 3))
    data = dataset(367, unlabelled)
    drawn = [labelled_images(data, 30, seed) for seed in range(30)]
    assert not set(unlabelled) & {index for chosen in drawn for index in chosen}
    assert len({index for chosen in drawn for index in chosen}) > 230, "some are never drawn"
    assert set(drawn[1]) < set(labelled_images(data, 40, 1))
    with pytest.raises(DataError, match=r"--labelled 245 is more than the 244 training images with label maps\.$"):
        labelled_images(data, 245, 0)


def test_full_takes_every_label_map_and_says_what_it_lacks() -> None:
    assert labelled_images(dataset(9), 3, 0, every=True) == list(range(9))
    message = (
        r"--method full needs a label map of every training image, but 2 of 9 have none, the first is 4: leave full"
    )
    with pytest.raises(DataError, match=message):
        labelled_images(dataset(9, (4, 7)), 3, 0, every=True)


def batches_of(batch_size: int, rank: int = 0, world: int = 1, workers: int = 0) -> Batches:
    crops = Crops(numbered(12, (4, 4)), range(12), (4, 4), (1, 1), labelled=False)
    return Batches(crops, batch_size, 7, Shard(torch.device("cpu"), rank, world), workers)


def numbers(batches: Batches) -> list[int]:
    return (batches.draw()[0].amax((1, 2, 3)) * 255).round().int().tolist()


def test_processes_share_the_global_batch() -> None:
    whole, parts = batches_of(4), [batches_of(2, rank, 2) for rank in range(2)]
    for _ in range(5):
        expected, *shares = (numbers(batches) for batches in (whole, *parts))
        assert sorted(sum(shares, [])) == sorted(expected)  # noqa: RUF017


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_where_they_were(workers: int) -> None:
    ahead = batches_of(2, 1, 2)
    for _ in range(8):
        ahead.draw()
    resumed = batches_of(2, 1, 2, workers)
    resumed.draw()
    resumed.load_state_dict({"drawn": 8})
    assert resumed.state_dict() == ahead.state_dict() == {"drawn": 8}
    state = torch.get_rng_state()
    coming = resumed._load()
    assert torch.equal(
        torch.get_rng_state(), state
    )  # masks are drawn from this generator; reading images leaves it alone
    del coming
    assert numbers(resumed) == numbers(ahead)
    resumed.close()  # left to the garbage collector, it would wait 10 seconds for its workers


def test_crops_are_of_one_size_and_follow_from_the_seed() -> None:
    rows, columns = torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij")
    coordinates = torch.stack([rows, columns, rows * 0 + 200]).byte()
    split = MadeSplit(3, lambda _: coordinates, lambda _: (rows // 10 * 16 + columns // 10).byte())
    crops = Crops(split, [0, 2], (64, 64), (0.5, 1.5), labelled=True)
    assert len(crops) == 2
    places = set()
    for position in range(20):
        image, label = crops[0, 5, position]
        assert image.shape == (3, 64, 64)
        assert label.shape == (64, 64)
        assert all(torch.equal(x, y) for x, y in zip((image, label), crops[1, 5, position], strict=True))
        inside = label != VOID
        assert torch.equal(inside, (image != torch.tensor(GREY).view(3, 1, 1)).any(0))
        # Image and labels are cut alike: colours are coordinates, and the labels were made of these coordinates.
        seen = image[:2].int() // 10
        near = (seen[0] * 16 + seen[1] - label.int()).abs()[inside]
        assert (near == 0).float().mean() > 0.8
        places.add((int(image[0, 32, 32]), int(image[1, 32, 32]), int(inside.sum())))
    assert len(places) > 15

    def unread(_: int) -> Tensor:
        raise AssertionError("labels of unlabelled images are not read")

    unlabelled = Crops(MadeSplit(3, lambda _: coordinates, unread), [0], (100, 200), (1, 1), labelled=False)
    image, label = unlabelled[0, 0, 0]
    assert (label == 0).sum() == 90 * 120  # all of the image
    assert (label == VOID).sum() == 100 * 200 - 90 * 120


def test_whole_images_are_left_as_they_are() -> None:
    crops = Crops(numbered(3, (20, 30)), [1], (20, 30), (1, 1), labelled=True)
    assert torch.equal(crops[0, 0, 0][0], numbered(3, (20, 30)).image(1))
    cut, labels = Crops(numbered(3, (20, 30)), [1], (10, 40), (1, 1), labelled=True)[0, 0, 0]
    assert (cut == 1).all(0).sum() == (labels == 1).sum() == 10 * 30


def test_listed_subsets() -> None:
    names = tuple(sorted({name for line in SUBSETS.read_text().splitlines()[1:] for name in line.split()}))
    chosen = listed_subset(names, 3)
    assert len(chosen) == 30
    assert chosen != listed_subset(names, 4)
    with pytest.raises(DataError, match="--subset must be from 0 to 9, got 10"):
        listed_subset(names, 10)
    with pytest.raises(DataError, match="not in the data"):
        listed_subset(names[1:], [names[0] in line for line in SUBSETS.read_text().splitlines()[1:]].index(True))


def test_what_lies_outside_of_an_unlabelled_image_is_not_valid() -> None:
    crops = Crops(numbered(5, (10, 40)), range(5), (20, 30), (1, 1), labelled=False)
    images, valid = Batches(crops, 3, 0, Shard(torch.device("cpu"))).draw_unlabelled()
    assert images.shape == (3, 3, 20, 30)
    assert valid.shape == (3, 1, 20, 30)
    assert valid.sum((1, 2, 3)).tolist() == [10 * 30] * 3
    assert (images <= 4 / 255 + 1e-6).all(1, keepdim=True).equal(valid)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_the_data_is_one_in_a_worker_too(workers: int) -> None:
    def fail(_: int) -> torch.Tensor:
        raise DataError("x.png cannot be read.", "cannot be read", "x.png")

    crops = Crops(MadeSplit(3, fail, fail), range(3), (4, 4), (1, 1), labelled=False)
    with pytest.raises(DataError, match=r"(^|DataError: )x.png cannot be read\.\s*$"):
        Batches(crops, 2, 7, Shard(torch.device("cpu")), workers).draw()


def test_colours_change_and_labels_do_not() -> None:
    rows = torch.arange(64, dtype=torch.uint8).view(8, 8)
    picture = MadeSplit(4, lambda _: torch.stack([rows, 2 * rows, 3 * rows]), lambda _: rows)
    for colour, same in ((0.0, True), (0.5, False)):
        crops = Crops(picture, range(4), (8, 8), (1, 1), labelled=True)
        batches = Batches(crops, 4, 7, Shard(torch.device("cpu")), colour=colour)
        images, targets = (torch.cat(parts) for parts in zip(*(batches.draw() for _ in range(5)), strict=True))
        assert {tuple(one.tolist()) for one in targets[:, 0]} == {tuple(range(8)), tuple(range(7, -1, -1))}
        assert torch.equal(targets, targets[:, :1] + 8 * torch.arange(8)[:, None])
        original = targets[:, None] * torch.tensor([1, 2, 3]).view(3, 1, 1) / 255
        is_original = (images - original).abs().amax((1, 2, 3)) < 1e-6
        assert is_original.all() if same else 0 < is_original.sum() < 12  # a fifth of 20
        assert images.min() >= 0
        assert images.max() <= 1
