"""The options of a training run: one typed dataclass, from which the command line is made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from segmentation.methods import MethodName

PAPER_SHORTER_SIDE = 360  # CamVid at 480x360, to which the paper's sigma and translation refer
PAPER_TRANSLATION = 16.0  # pixels, of standard augmentation (paper, appendix C.1)
# Of CamVid's 367 training images at batch size 1. Table 1 stops these earlier than the rest (its footnotes; C.3.3).
PAPER_EPOCHS = {"std_aug": 50, "cutmix": 100, "cutmix_fixed": 100, "cowout": 100}


class ConfigError(Exception):
    """An option makes no sense; the message is one sentence for the user."""


@dataclass(frozen=True)
class Config:
    """Options of a run; the defaults are those of the built-in scenes. With --data they are those of `CAMVID`."""

    data: Path | None = None
    """Folder of CamVid (train, trainannot, val, valannot, test, testannot). Without it: built-in street scenes."""
    method: Annotated[tuple[MethodName, ...], tyro.conf.arg(metavar="METHOD...")] = ("supervised", "cowmix", "full")
    """What to train, one after the other; see `segmentation/methods.py`."""
    encoder: str = "tu-resnet10t"
    """Encoder of the U-Net: a segmentation_models_pytorch name, or tu-NAME for any of timm's."""
    encoder_weights: Annotated[str, tyro.conf.arg(metavar="imagenet|none|FILE")] = "none"
    """imagenet downloads pre-trained weights; none starts at random; or a .safetensors or .pt file."""
    decoder_channels: tuple[int, int, int, int, int] = (128, 64, 32, 16, 16)
    """Channels of the decoder's blocks, deepest first."""
    size: Annotated[tuple[int, int], tyro.conf.arg(metavar="HEIGHT WIDTH")] = (64, 96)
    """Images are resized to this, and scores counted at it."""
    recipe: Literal["default", "paper"] = "default"
    """paper: batch 1, Adam at 1e-4, ResNet-50 from ImageNet, and the paper's iterations; needs --data."""
    labelled: int = 30
    """Images of the training set whose labels are used; which ones follows from the seed."""
    subset: int | None = None
    """CamVid only: use the 30 labelled images of this line (from 0) of `segmentation/camvid_subsets.txt` instead."""
    iterations: int = 450
    """Optimiser steps."""
    batch_size: int = 8
    """Images in a labelled batch, and in an unlabelled one, on each process."""
    accumulate: int = 1
    """Batches whose gradients make one optimiser step."""
    learning_rate: float = 3e-3
    """Adam's."""
    schedule: Literal["poly", "constant"] = "poly"
    """The learning rate: decayed to 0 over the run (polynomial, power 0.9), or not."""
    consistency_weight: float = 10.0
    """Weight of the consistency loss (paper, Figure 8: good from 3 to 30)."""
    threshold: float = 0.97
    """Probability above which the teacher is confident (paper, C.3.4)."""
    confidence: Literal["mean", "pixel"] = "mean"
    """Scale the loss by the mean of the confident pixels (as the paper does), or count only those."""
    teacher: Literal["ema", "self"] = "ema"
    """The student's average (mean teacher), or the student itself (Pi-model)."""
    ema: float = 0.98
    """Share of its old weights the teacher keeps each step; the paper's 0.99 with --data (little effect, Figure 9)."""
    teacher_bn: Literal["batch", "averaged"] = "batch"
    """The teacher's batch-norm in training: statistics of its own batch (as the authors do), or averaged buffers."""
    sigma: tuple[float, float] = (4.0, 16.0)
    """Range of the cow masks' sigma in pixels of a 480x360 image, as in the paper; scaled with the shorter side."""
    proportion: tuple[float, float] | None = None
    """Range of the cow masks' proportion; by default 0.5 for CowMix, and 0 to 1 (kept) for CowOut."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the network; losses and masks stay in float32."""
    compile: bool = False
    """Compile the networks by torch.compile."""
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
        whole = ("labelled", "iterations", "batch_size", "accumulate", "evaluate_every", "checkpoint_every")
        low, high = self.proportion or (0.0, 1.0)
        checks = {
            "method must name at least one": bool(self.method),
            "size must be two lengths of at least 32 pixels": min(self.size) >= 32,
            "ema must be in [0, 1)": 0 <= self.ema < 1,
            "threshold must be in [0, 1]": 0 <= self.threshold <= 1,
            "sigma must be LOW HIGH with 0 < LOW <= HIGH": 0 < self.sigma[0] <= self.sigma[1],
            "proportion must be LOW HIGH with 0 <= LOW <= HIGH <= 1": 0 <= low <= high <= 1,
            "recipe paper needs --data": self.recipe == "default" or self.data is not None,
            "learning-rate must be above 0": self.learning_rate > 0,
            "consistency-weight must be at least 0": self.consistency_weight >= 0,
            "decoder-channels must be at least 1": min(self.decoder_channels) >= 1,
        } | {f"{name.replace('_', '-')} must be at least 1": getattr(self, name) >= 1 for name in whole}
        for rule, holds in checks.items():
            if not holds:
                raise ConfigError(f"--{rule}.")

    @property
    def _scale(self) -> float:
        return min(self.size) / PAPER_SHORTER_SIDE

    @property
    def mask_sigma(self) -> tuple[float, float]:
        """Range of sigma in pixels of the images trained on."""
        return self.sigma[0] * self._scale, self.sigma[1] * self._scale

    @property
    def translation(self) -> float:
        """Largest translation of standard augmentation, in pixels of the images trained on."""
        return PAPER_TRANSLATION * self._scale

    def iterations_of(self, method: MethodName) -> int:
        """Return the optimiser steps of a method: by the paper's recipe, some stop early."""
        paper = PAPER_EPOCHS.get(method, 300) * 367
        return min(self.iterations, paper) if self.recipe == "paper" else self.iterations


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


PAPER = replace(
    CAMVID,
    data=Path(),
    recipe="paper",
    encoder_weights="imagenet",
    iterations=300 * 367,
    batch_size=1,
    learning_rate=1e-4,
    schedule="constant",
    evaluate_every=3670,
    out=Path("runs/camvid-paper"),
)


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> Config:
    """Read the command line; --data and --recipe change the defaults of what is not given."""
    config = tyro.cli(Config, args=arguments, description=description)
    if config.recipe == "paper":
        return tyro.cli(Config, args=arguments, default=PAPER)
    return config if config.data is None else tyro.cli(Config, args=arguments, default=CAMVID)
