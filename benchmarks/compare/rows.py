"""The rows of the page, and which roads each is about."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.compare import beside, probes, step
from benchmarks.compare.roads import Library, Road


@dataclass(frozen=True)
class Row:
    """A feature: every road that it is about should have it."""

    title: str
    probe: probes.Probe
    about: Callable[[type[Road]], bool]
    enough: bool = False
    """One road of a library is enough."""
    containers: bool = False
    """It is about containers: roads that are made for those stand for the library."""


@dataclass(frozen=True)
class Beside:
    """A feature of a library as a whole."""

    title: str
    probe: Callable[[Library], str]
    counts: bool = False
    """The probe says how many."""


def mixes_labels(road: type[Road]) -> bool:
    """Take the roads that mix labels."""
    return road.mixes and "labels" in road.takes


def mixes(road: type[Road]) -> bool:
    """Take the roads that mix, but for those of labels alone."""
    return road.mixes and "maps" in road.takes


def selects(road: type[Road]) -> bool:
    """Take the roads that mix whole pixels, but for those of labels alone."""
    return mixes(road) and road.selects


def selects_or_erases(road: type[Road]) -> bool:
    """Take the roads that mix whole pixels or erase, but for those of labels alone."""
    return mixes_or_erases(road) and road.selects


def mixes_or_erases(road: type[Road]) -> bool:
    """Take all roads but those of labels alone."""
    return "maps" in road.takes


TABLES: dict[str, tuple[Row | Beside, ...]] = {
    "What is mixed": (
        Row("Integer segmentation maps, mixed by the images' masks", probes.integer_maps, selects),
        Row("The ignored value 255 of such maps survives", probes.ignored, selects),
        Row("Probability maps, mixed by the images' masks", probes.probability_maps, mixes),
        Row("Class labels", probes.class_labels, mixes_labels),
        Row("Soft labels (B, K)", probes.soft_labels, mixes_labels),
        Row("Labels weighted by the area that was mixed, measured", probes.measured_labels, mixes_labels),
        Row("A second batch as partner", probes.second_batch, mixes),
        Row("Volumes (B, C, D, H, W), masks in three dimensions", step.volumes, selects_or_erases, enough=True),
    ),
    "Masks and randomness": (
        Row("Masks that are not boxes", probes.any_shape, selects_or_erases, enough=True),
        Row("A mask for each image of a batch", probes.each_its_own, selects),
        Row("`p` drawn for each image", probes.p_of_each, mixes),
        Row("A batch of 4, then an odd one of 3", probes.odd_batch, mixes),
        Row("A batch of one", probes.batch_of_one, mixes),
        Row("A random generator of its own", probes.own_generator, mixes_or_erases),
        Row("The same masks for a second batch", probes.replayed, mixes_or_erases),
        Row("As collate_fn in workers: other masks in each, the same for a seed", step.workers, mixes),
    ),
    "In a training step": (
        Row("`torch.compile(fullgraph=True)`", step.compiles, mixes_or_erases),
        Row("Reads nothing back from the device", step.reads_nothing, mixes_or_erases),
        Row("Gradients reach the images", step.gradients, mixes),
        Row("Leaves its inputs as they were", step.inputs_unchanged, mixes_or_erases),
        Row("uint8 images stay uint8", step.uint8, selects_or_erases),
        Row("bfloat16 images stay bfloat16", step.bfloat16, mixes_or_erases),
    ),
    "Containers": (
        Row("Dicts, unknown entries passed on", step.dicts, mixes_or_erases, containers=True),
        Row("`tv_tensors.Image` stays one", step.image_types, mixes_or_erases, containers=True),
        Row("`tv_tensors.Mask` is mixed with its image, and stays one", step.mask_types, selects, containers=True),
        Row("MONAI's `MetaTensor` stays one", step.meta_tensors, mixes_or_erases),
        Row("Videos (B, T, C, H, W), one mask a clip", step.videos, selects_or_erases, enough=True, containers=True),
    ),
    "Beside that": (
        Beside("Single images (C, H, W) are erased from", beside.single_image),
        Beside("NumPy images (H, W, C)", beside.numpy_image),
        Beside("PIL images", beside.pil_image),
        Beside("Bounding boxes follow what is mixed or erased", beside.boxes_follow),
        Beside("Key points follow what is erased", beside.points_follow),
        Beside("Rotation, as one of the geometric transforms", beside.rotates),
        Beside("Bounding boxes turn with the image", beside.boxes_turn),
        Beside("Transforms (public classes)", beside.all_transforms, counts=True),
        Beside("Transforms that mix images", beside.mixing_transforms, counts=True),
        Beside("Packages required", beside.requirements, counts=True),
    ),
}
