"""Batched cow masks and box masks, and the mixing and erasing augmentations built on them, where the images are."""

from cowmask.consistency import consistency_loss
from cowmask.masks import box_masks, cow_masks
from cowmask.mixing import erase, mix
from cowmask.teacher import MeanTeacher
from cowmask.transforms import CowMix, CowOut, CutMix, CutOut, MixUp

__version__ = "0.4.0"

__all__ = [
    "CowMix",
    "CowOut",
    "CutMix",
    "CutOut",
    "MeanTeacher",
    "MixUp",
    "box_masks",
    "consistency_loss",
    "cow_masks",
    "erase",
    "mix",
]
