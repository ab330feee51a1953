"""The options of a training run: one typed dataclass, from which the command line is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from segmentation.methods import MethodName

PAPER_SHORTER_SIDE = 360  # CamVid at 480x360, to which the paper's sigma refers


class ConfigError(Exception):
    """An option makes no sense; the message is one sentence for the user."""


@dataclass(frozen=True)
class Config:
    """Options of a run; the defaults are those of the built-in scenes. With --data they are those of `CAMVID`."""

    data: Path | None = None
    """Folder of CamVid (train, trainannot, val, valannot, test, testannot). Without it: built-in street scenes."""
    method: Annotated[tuple[MethodName, ...], tyro.conf.arg(metavar="METHOD...")] = ("supervised", "cowmix", "full")
    """What to train, one after the other: any of supervised, cutmix, cowmix, full."""
    encoder: str = "tu-resnet10t"
    """Encoder of the U-Net: a segmentation_models_pytorch name, or tu-NAME for any of timm's."""
    encoder_weights: Annotated[str, tyro.conf.arg(metavar="imagenet|none|FILE")] = "none"
    """imagenet downloads pre-trained weights; none starts at random; or a .safetensors or .pt file."""
    decoder_channels: tuple[int, int, int, int, int] = (128, 64, 32, 16, 16)
    """Channels of the decoder's blocks, deepest first."""
    size: Annotated[tuple[int, int], tyro.conf.arg(metavar="HEIGHT WIDTH")] = (64, 96)
    """Images are resized to this, and scores counted at it."""
    labelled: int = 30
    """Images of the training set whose labels are used; which ones follows from the seed."""
    iterations: int = 450
    """Optimiser steps."""
    batch_size: int = 8
    """Images in a labelled batch, and in an unlabelled one."""
    learning_rate: float = 3e-3
    """Adam's, decayed to 0 over the run (polynomial, power 0.9)."""
    consistency_weight: float = 10.0
    """Weight of the consistency loss (paper, Figure 8: good from 3 to 30)."""
    threshold: float = 0.97
    """Probability above which the teacher is confident (paper, C.3.4)."""
    ema: float = 0.98
    """Share of its old weights the teacher keeps each step; the paper's 0.99 with --data (little effect, Figure 9)."""
    teacher_bn: Literal["batch", "averaged"] = "batch"
    """The teacher's batch-norm in training: statistics of its own batch (as the authors do), or averaged buffers."""
    sigma: tuple[float, float] = (4.0, 16.0)
    """Range of the cow masks' sigma in pixels of a 480x360 image, as in the paper; scaled with the shorter side."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the network; losses and masks stay in float32."""
    seed: int = 0
    """Chooses the labelled images, the initial weights, the batches and the masks."""
    evaluate_every: int = 150
    """Iterations between evaluations on the validation set."""
    checkpoint_every: int = 500
    """Iterations between checkpoints; there is one at the end in any case."""
    resume: bool = False
    """Go on from the checkpoint in `out`, if there is one."""
    out: Path = Path("runs/street")
    """Folder for logs, checkpoints, metrics.json and panel.png."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        whole = ("labelled", "iterations", "batch_size", "evaluate_every", "checkpoint_every")
        checks = {
            "method must name at least one": bool(self.method),
            "size must be two lengths of at least 32 pixels": min(self.size) >= 32,
            "ema must be in [0, 1)": 0 <= self.ema < 1,
            "threshold must be in [0, 1]": 0 <= self.threshold <= 1,
            "sigma must be LOW HIGH with 0 < LOW <= HIGH": 0 < self.sigma[0] <= self.sigma[1],
            "learning-rate must be above 0": self.learning_rate > 0,
            "consistency-weight must be at least 0": self.consistency_weight >= 0,
            "decoder-channels must be at least 1": min(self.decoder_channels) >= 1,
        } | {f"{name.replace('_', '-')} must be at least 1": getattr(self, name) >= 1 for name in whole}
        for rule, holds in checks.items():
            if not holds:
                raise ConfigError(f"--{rule}.")

    @property
    def mask_sigma(self) -> tuple[float, float]:
        """Range of sigma in pixels of the images trained on."""
        scale = min(self.size) / PAPER_SHORTER_SIDE
        return self.sigma[0] * scale, self.sigma[1] * scale


CAMVID = Config(
    encoder="resnet50",
    decoder_channels=(256, 128, 64, 32, 16),
    size=(360, 480),
    iterations=10_000,
    batch_size=4,
    learning_rate=1e-3,
    ema=0.99,
    evaluate_every=500,
    out=Path("runs/camvid"),
)


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> Config:
    """Read the command line; --data changes the defaults of what is not given."""
    config = tyro.cli(Config, args=arguments, description=description)
    return config if config.data is None else tyro.cli(Config, args=arguments, default=CAMVID)
