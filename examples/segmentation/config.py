"""The options of a training run: one typed dataclass, from which the command line is made."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from segmentation.methods import MethodName

PAPER_SHORTER_SIDE = 360  # CamVid at 480x360, where the paper's sigma is 4-16


@dataclass(frozen=True)
class Config:
    """Options of a run. Those that are None take the default of the data set: see `BUILT_IN` and `CAMVID`."""

    data: Path | None = None
    """Folder of CamVid (train, trainannot, val, valannot, test, testannot). Without it: built-in street scenes."""
    method: Annotated[tuple[MethodName, ...], tyro.conf.arg(metavar="METHOD...")] = ("supervised", "cowmix", "full")
    """What to train, one after the other: any of supervised, cutmix, cowmix, full."""
    encoder: str | None = None
    """Encoder of the U-Net: a segmentation_models_pytorch name, or tu-NAME for any of timm's."""
    encoder_weights: Annotated[str, tyro.conf.arg(metavar="imagenet|none|FILE")] = "none"
    """imagenet downloads pre-trained weights; none starts at random; or a .safetensors or .pt file."""
    decoder_channels: tuple[int, int, int, int, int] | None = None
    """Channels of the decoder's blocks, deepest first."""
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Images are resized to this, and scores counted at it."""
    labelled: int = 30
    """Images of the training set whose labels are used; which ones follows from the seed."""
    iterations: int | None = None
    """Optimiser steps."""
    batch_size: int | None = None
    """Images in a labelled batch, and in an unlabelled one."""
    learning_rate: float | None = None
    """Adam's, decayed to 0 over the run (polynomial, power 0.9)."""
    consistency_weight: float = 10.0
    """Weight of the consistency loss (paper, Figure 8: good from 3 to 30)."""
    threshold: float = 0.97
    """Probability above which the teacher is confident (paper, C.3.4)."""
    ema: float = 0.99
    """Share of its old weights the teacher keeps each step (paper, Figure 9)."""
    sigma: tuple[float, float] | None = None
    """Range of the cow masks' sigma, pixels; by default the paper's 4-16 at 480x360, scaled with the shorter side."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the network; losses and masks stay in float32."""
    seed: int = 0
    """Chooses the labelled images, the initial weights, the batches and the masks."""
    evaluate_every: int | None = None
    """Iterations between evaluations on the validation set."""
    checkpoint_every: int = 500
    """Iterations between checkpoints; there is one at the end in any case."""
    resume: bool = False
    """Go on from the checkpoint in `out`, if there is one."""
    out: Path = Path("runs/camvid")
    """Folder for logs, checkpoints, metrics.json and panel.png."""


BUILT_IN: dict[str, Any] = {
    "encoder": "tu-lcnet_050",
    "decoder_channels": (96, 64, 32, 16, 16),
    "size": (96, 128),
    "iterations": 500,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "evaluate_every": 250,
}
CAMVID: dict[str, Any] = {
    "encoder": "resnet50",
    "decoder_channels": (256, 128, 64, 32, 16),
    "size": (360, 480),
    "iterations": 10_000,
    "batch_size": 4,
    "learning_rate": 3e-4,
    "evaluate_every": 500,
}


def resolve(config: Config) -> Config:
    """Fill in what was left to the data set, and check the rest."""
    defaults = BUILT_IN if config.data is None else CAMVID
    config = replace(config, **{name: value for name, value in defaults.items() if getattr(config, name) is None})
    if config.sigma is None:
        scale = min(config.size or ()) / PAPER_SHORTER_SIDE
        config = replace(config, sigma=(4 * scale, 16 * scale))
    return config
