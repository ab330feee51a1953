"""The studies of docs/results: which trainings answer which question."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from segmentation.campaigns import runner
from segmentation.campaigns.runner import Job
from segmentation.methods import MethodName

StudyName = Literal[
    "scenes-iterations",
    "camvid-iterations",
    "scenes-sizes",
    "scenes-beyond",
    "camvid-supervised-trials",
    "camvid-cowmix-trials",
    "camvid-subsets",
    "camvid-labels",
    "camvid-labels-mixed",
    "camvid-sizes",
    "camvid-full-size",
]

VALIDATION = "the validation split"  # as it was scored last during the training
TRIPLE: tuple[MethodName, ...] = ("supervised", "cowmix", "full")
LITE0 = ("--encoder", "tu-tf_efficientnet_lite0", "--encoder-weights", "lite0")
SCENES = ("--labelled", "30", "--checkpoint-every", "300")
CAMVID = (*LITE0, *shlex.split("--sigma 8 32 --decoder-channels 128 64 32 16 16 --checkpoint-every 250"))
SMALL = ("--size", "120", "160")  # CamVid's images at a third of their sides
FLIPS, SCALED = ("--scale", "1", "1"), ("--scale", "0.75", "1.5")
TENTH = ("--encoder-rate", "0.1")
RATES = (*TENTH, "--learning-rate", "3e-3")  # best for supervised training, by SUPERVISED_TRIALS
SCALED_TENTH, BEST_RATES = (*SCALED, *TENTH), (*SCALED, *RATES)
LONG = (*BEST_RATES, "--iterations", "6000", "--evaluate-every", "1000")
SHORT = (*CAMVID, *SMALL, *shlex.split("--iterations 2000 --evaluate-every 500 --score-on val"))


class Cell(NamedTuple):
    """What a method scores in a variant of a study, on all scored images or on one part of them (see scores_of)."""

    variant: str
    method: MethodName
    part: str | None = None


Contrast = tuple[tuple[Cell, Cell], ...]  # a cell less another; of two pairs, the first difference less the second


@dataclass(frozen=True)
class Study:
    """Trainings that differ in a few options.

    Args:
        title: Data and number of labels.
        question: What the trainings tell.
        common: Arguments of all trainings.
        variants: Arguments of each variant, by name.
        methods: What is trained in each variant.
        seeds: Each variant is trained by each method once a seed.
        subsets: Whether a seed is also the number of the paper's subset of 30 labelled frames of CamVid.
        unaffected: Methods that the variants do not concern: trained once a seed, without the arguments of a variant,
            and counted as trained in the first.
        contrasts: Differences to tell with their 95% intervals, by what each tells.
    """

    title: str
    question: str
    common: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    methods: tuple[MethodName, ...]
    seeds: Sequence[int]
    subsets: bool = False
    unaffected: tuple[MethodName, ...] = ()
    contrasts: Mapping[str, Contrast] = field(default_factory=dict)

    def trainings(self, folder: Path, passed: Sequence[str]) -> Iterator[tuple[tuple[str, str, int], Job]]:
        """Yield each training with its variant, method and seed, in an order that soon allows comparisons.

        Args:
            folder: Folder of the study; every training gets a folder in it.
            passed: Arguments from the user.
        """
        for seed, (variant, own), method in product(self.seeds, self.variants.items(), self.methods):
            if variant == self.trained_in(variant, method):
                subset = ("--subset", str(seed)) if self.subsets else ()
                words = ("--seed", str(seed), *subset, *self.common, *(() if method in self.unaffected else own))
                place = folder / variant.replace(" ", "-") / method / str(seed)
                yield (variant, method, seed), runner.job(place, method, words, passed)

    def trained_in(self, variant: str, method: str) -> str:
        """Return the variant whose training of `method` is shown in `variant`."""
        return next(iter(self.variants)) if method in self.unaffected else variant

    def label(self, variant: str, method: str) -> str:
        """Return the name of a method in a variant, among all methods and variants."""
        if len(self.methods) == 1:
            return variant
        return method if method in self.unaffected else f"{method}, {variant}"


def _scaled(iterations: int) -> str:
    return f"{iterations:,} iterations, flips and scales"


def _flipped(iterations: int) -> str:
    return f"{iterations:,} iterations, flips"


def _long(iterations: Sequence[int]) -> dict[str, tuple[str, ...]]:
    return {
        name(n): ("--iterations", str(n), *scale, "--evaluate-every", str(n // 6))
        for n in iterations
        for name, scale in ((_scaled, SCALED), (_flipped, FLIPS))
    }


def validated_after(iterations: int) -> str:
    """Return the name of the part that is the validation split, as it was scored after some iterations."""
    return f"{VALIDATION} after {iterations:,} iterations"


def _gain(variant: str, part: str | None = None, method: MethodName = "cowmix") -> tuple[Cell, Cell]:
    return Cell(variant, method, part), Cell(variant, "supervised", part)


SCENES_CONTRASTS: dict[str, Contrast] = {
    "CowMix's gain in 600 iterations, flips and scales": (_gain(_scaled(600)),),
    "CowMix's gain in 1,200 iterations, flips and scales": (_gain(_scaled(1200)),),
    "CowMix's gain in 2,400 iterations, flips and scales": (_gain(_scaled(2400)),),
    "CowMix's gain in 1,200 iterations - in 600, flips and scales": (_gain(_scaled(1200)), _gain(_scaled(600))),
    "CowMix's gain in 2,400 iterations - in 1,200, flips and scales": (_gain(_scaled(2400)), _gain(_scaled(1200))),
    "CowMix in 600 iterations - supervised in 1,200, flips and scales": (
        (Cell(_scaled(600), "cowmix"), Cell(_scaled(1200), "supervised")),
    ),
    "CowMix in 1,200 iterations - supervised in 2,400, flips and scales": (
        (Cell(_scaled(1200), "cowmix"), Cell(_scaled(2400), "supervised")),
    ),
    "supervised with flips and scales - with flips, 1,200 iterations": (
        (Cell(_scaled(1200), "supervised"), Cell(_flipped(1200), "supervised")),
    ),
}

SCENES_SIZES = {f"{3 * n}x{2 * n}": ("--size", str(2 * n), str(3 * n)) for n in (48, 64)}
SCENES_SIZES_CONTRASTS: dict[str, Contrast] = {f"CowMix's gain at {size}": (_gain(size),) for size in SCENES_SIZES}

PAPER, MIXED = "as in the paper", "mixed with labelled images"


def _over_paper(variant: str, method: MethodName = "cowmix") -> Contrast:
    return ((Cell(variant, method), Cell(PAPER, "cowmix")),)


SUBSETS_CONTRASTS: dict[str, Contrast] = {
    f"CowMix's gain, {PAPER}": (_gain(PAPER),),
    f"CowMix's gain, {MIXED}": (_gain(MIXED),),
    f"CowMix {MIXED} - {PAPER}": _over_paper(MIXED),
    **{
        f"CowMix's gain on 0001TP - on Seq05VD, {variant}": (_gain(variant, "0001TP"), _gain(variant, "Seq05VD"))
        for variant in (PAPER, MIXED)
    },
    f"CutMix's gain, {MIXED}": (_gain(MIXED, method="cutmix"),),
    f"CowMix - CutMix, {MIXED}": ((Cell(MIXED, "cowmix"), Cell(MIXED, "cutmix")),),
    f"CowMix - CutMix, {MIXED}, the validation split": (
        (Cell(MIXED, "cowmix", VALIDATION), Cell(MIXED, "cutmix", VALIDATION)),
    ),
}

BEYOND = {
    PAPER: (),
    "recoloured student's view": ("--student-colour", "0.5"),
    "hard targets, confidence per pixel": ("--distance", "ce", "--confidence", "pixel", "--consistency-weight", "1"),
    "two views": ("--views", "2"),
    MIXED: ("--mix-labelled",),
    f"{MIXED}, recoloured": ("--mix-labelled", "--student-colour", "0.5"),
}
BEYOND_CONTRASTS = {
    f"cow and box masks in turn - {PAPER}": _over_paper(PAPER, "cow_and_box"),
    **{f"{name} - {PAPER}": _over_paper(name) for name in BEYOND if name != PAPER},
}

SUPERVISED_TRIALS = {
    "scales 0.75-1.5": SCALED,
    "flips alone": FLIPS,
    "scales 0.5-2": ("--scale", "0.5", "2"),
    "colours": (*SCALED, "--colour", "0.5"),
    "learning rate 0.0003": (*SCALED, "--learning-rate", "3e-4"),
    "learning rate 0.003": (*SCALED, "--learning-rate", "3e-3"),
    "encoder's rate a tenth": SCALED_TENTH,
    "encoder's rate a tenth, learning rate 0.003": BEST_RATES,
    "encoder's rate a tenth, colours": (*SCALED_TENTH, "--colour", "0.5"),
    "encoder's rate a tenth, learning rate 0.01": (*SCALED_TENTH, "--learning-rate", "1e-2"),
    "encoder's rate a tenth, learning rate 0.003, scales 0.5-2": tuple(
        shlex.split("--scale 0.5 2 --encoder-rate 0.1 --learning-rate 3e-3")
    ),
}

COWMIX_TRIALS = {
    **BEYOND,
    "consistency weight 30": ("--consistency-weight", "30"),
    "threshold 0.8": ("--threshold", "0.8"),
    "EMA 0.999": ("--ema", "0.999"),
    "learning rate 0.003": ("--learning-rate", "3e-3"),
    "learning rate 0.003, mixed with labelled images": ("--learning-rate", "3e-3", "--mix-labelled"),
}

FULL_SIZE = ("--size", "360", "480", "--precision", "bf16")
SIZES = {"480x360": FULL_SIZE, "160x120": SMALL}
LARGE_FLIPPED, SMALL_FLIPPED, SMALL_SCALED = "480x360, flips", "160x120, flips", "160x120, flips and scales"
SIZES_CONTRASTS: dict[str, Contrast] = {
    **{f"CowMix's gain, {name}": (_gain(name),) for name in (LARGE_FLIPPED, SMALL_FLIPPED, SMALL_SCALED)},
    "CowMix's gain, 480x360 - 160x120, flips": (_gain(LARGE_FLIPPED), _gain(SMALL_FLIPPED)),
    "CowMix's gain with flips - with flips and scales, 160x120": (_gain(SMALL_FLIPPED), _gain(SMALL_SCALED)),
    "supervised with flips and scales - with flips, 160x120": (
        (Cell(SMALL_SCALED, "supervised"), Cell(SMALL_FLIPPED, "supervised")),
    ),
}

FULL_SIZE_SCALED, EARLY, LATE = _scaled(3600), validated_after(1800), validated_after(3000)
FULL_SIZE_CONTRASTS: dict[str, Contrast] = {
    "CowMix's gain": (_gain(FULL_SIZE_SCALED),),
    "CowMix's gain on 0001TP - on Seq05VD": (_gain(FULL_SIZE_SCALED, "0001TP"), _gain(FULL_SIZE_SCALED, "Seq05VD")),
    **{
        f"{method}, {LATE} - after 1,800": (
            (Cell(FULL_SIZE_SCALED, method, LATE), Cell(FULL_SIZE_SCALED, method, EARLY)),
        )
        for method in TRIPLE
    },
    f"CowMix's gain, {LATE} - after 1,800": (_gain(FULL_SIZE_SCALED, LATE), _gain(FULL_SIZE_SCALED, EARLY)),
    f"CowMix after 1,800 iterations - supervised after 3,000, {VALIDATION}": (
        (Cell(FULL_SIZE_SCALED, "cowmix", EARLY), Cell(FULL_SIZE_SCALED, "supervised", LATE)),
    ),
}

LABELS = {f"{n} labels": ("--labelled", str(n)) for n in (10, 100)}
TEST_AND_VALIDATION = (("", None), (f", {VALIDATION}", VALIDATION))
LABELS_CONTRASTS: dict[str, Contrast] = {
    **{
        f"CowMix's gain with {name}{where}": (_gain(name, part),)
        for name, (where, part) in product(LABELS, TEST_AND_VALIDATION)
    },
    **{
        f"CowMix's gain with 10 labels - with 100{where}": (_gain("10 labels", part), _gain("100 labels", part))
        for where, part in TEST_AND_VALIDATION
    },
}

STUDIES: dict[StudyName, Study] = {
    "scenes-iterations": Study(
        "Scenes, 30 labels",
        "Does CowMix gain over supervised training, also where that is scaled at random, and does the gain grow?",
        SCENES,
        _long((600, 1200, 2400)),
        TRIPLE,
        range(5),
        contrasts=SCENES_CONTRASTS,
    ),
    "camvid-iterations": Study(
        "CamVid, 30 labels",
        "Does CowMix gain on CamVid, 160x120, and does the gain grow?",
        (*CAMVID, *SMALL),
        _long((10_000,)),
        TRIPLE,
        range(3),
        subsets=True,
    ),
    "scenes-sizes": Study(
        "Scenes, 30 labels, 1,200 iterations, flips and scales",
        "Does CowMix gain on larger images of the built-in scenes, too?",
        (*SCENES, "--iterations", "1200", *SCALED, "--evaluate-every", "200"),
        SCENES_SIZES,
        TRIPLE,
        range(3),
        contrasts=SCENES_SIZES_CONTRASTS,
    ),
    "scenes-beyond": Study(
        "Scenes, 30 labels",
        "What makes CowMix better on the built-in scenes, within the same iterations?",
        (*SCENES, "--iterations", "1200", *SCALED, "--evaluate-every", "200"),
        BEYOND,
        ("cowmix", "cow_and_box"),
        range(3),
        unaffected=("cow_and_box",),
        contrasts=BEYOND_CONTRASTS,
    ),
    "camvid-supervised-trials": Study(
        "CamVid, 30 labels",
        "What makes supervised training on CamVid, 160x120, better on the validation split?",
        SHORT,
        SUPERVISED_TRIALS,
        ("supervised",),
        (9,),
        subsets=True,
    ),
    "camvid-cowmix-trials": Study(
        "CamVid, 30 labels",
        "What makes CowMix on CamVid, 160x120, better on the validation split?",
        (*SHORT, *SCALED_TENTH),
        COWMIX_TRIALS,
        ("cowmix",),
        (9,),
        subsets=True,
    ),
    "camvid-subsets": Study(
        "CamVid, 30 labels, best settings",
        "What does CowMix gain on CamVid, 160x120, over the best supervised training?",
        (*CAMVID, *SMALL, *LONG),
        {
            MIXED: ("--mix-labelled",),
            PAPER: (),
            f"{MIXED}, test images unlabelled": ("--mix-labelled", "--transductive"),
        },
        ("supervised", "std_aug", "ict", "cutout", "cutmix", "cowout", "cowmix", "full"),
        range(5),
        subsets=True,
        unaffected=("supervised", "std_aug", "cutout", "cowout", "full"),
        contrasts=SUBSETS_CONTRASTS,
    ),
    "camvid-labels": Study(
        f"CamVid, {PAPER}",
        "How does CowMix's gain on CamVid, 160x120, depend on the number of labels?",
        (*CAMVID, *SMALL, *LONG),
        LABELS,
        ("supervised", "cowmix"),
        range(3),
        contrasts=LABELS_CONTRASTS,
    ),
    "camvid-labels-mixed": Study(
        f"CamVid, {MIXED}",
        "How does CowMix's gain on CamVid, 160x120, mixed with labelled images, depend on the number of labels?",
        (*CAMVID, *SMALL, *LONG, "--mix-labelled"),  # supervised training is that of camvid-labels: it mixes nothing
        LABELS,
        ("supervised", "cowmix"),
        range(3),
        contrasts=LABELS_CONTRASTS,
    ),
    "camvid-sizes": Study(
        "CamVid, 30 labels, 1,200 iterations",
        "Does CowMix's gain on CamVid depend on the size of the images, and on random scales?",
        (*CAMVID, *RATES, "--iterations", "1200", "--evaluate-every", "400"),
        {
            f"{size}, {name}": (*words, *scale)
            for size, words in SIZES.items()
            for name, scale in (("flips", FLIPS), ("flips and scales", SCALED))
        },
        TRIPLE,
        range(5),
        subsets=True,
        contrasts=SIZES_CONTRASTS,
    ),
    "camvid-full-size": Study(
        "CamVid, 480x360, 30 labels",
        "What does CowMix gain on CamVid at its full size over supervised training that is scaled at random?",
        (*CAMVID, *FULL_SIZE, *RATES),
        _long((3600,)),
        TRIPLE,
        range(5),
        subsets=True,
        contrasts=FULL_SIZE_CONTRASTS,
    ),
}

# Differences between studies that train on the same labelled images by the same seeds: the pairs of a contrast, each
# with its study.
BETWEEN_STUDIES: Mapping[str, Sequence[tuple[StudyName, tuple[Cell, Cell]]]] = {
    **{
        f"CowMix's gain on CamVid in 6,000 iterations - in 1,200{where}": (
            ("camvid-subsets", _gain(PAPER, part)),
            ("camvid-sizes", _gain(SMALL_SCALED, part)),
        )
        for where, part in (("", None), (", 0001TP", "0001TP"), (", Seq05VD", "Seq05VD"))
    },
    "CowMix's gain on CamVid at 480x360 in 3,600 iterations - at 160x120 in 6,000": (
        ("camvid-full-size", _gain(FULL_SIZE_SCALED)),
        ("camvid-subsets", _gain(PAPER)),
    ),
    **{
        f"CowMix's gain on scenes of {size} - of 96x64": (
            ("scenes-sizes", _gain(size)),
            ("scenes-iterations", _gain(_scaled(1200))),
        )
        for size in SCENES_SIZES
    },
    f"CowMix's gain on CamVid with 10 labels, {PAPER} - {MIXED}": (
        ("camvid-labels", _gain("10 labels")),
        ("camvid-labels-mixed", _gain("10 labels")),
    ),
}
