"""The options of a training run: one typed dataclass, from which tyro makes the command line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from segmentation.data.folder import FolderOptions
from segmentation.errors import UserError
from segmentation.methods import MethodName

PAPER_TRANSLATION = 16.0  # pixels, the largest of standard augmentation (paper, appendix C.1)
LARGEST = 1e9  # of what a user gives as a decimal number: the optimiser computes with it in float32


class ConfigError(UserError):
    """An option is wrong; the message is one sentence for the user."""


@dataclass(frozen=True)
class Config:
    """Options of a run. These defaults are for the built-in scenes; `presets.py` has the others."""

    data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PATH...")] = ()
    """Folder or archives of the data set: see above."""
    method: Annotated[tuple[MethodName, ...], tyro.conf.arg(metavar="METHOD...")] = ("supervised", "cowmix", "full")
    """What to train, one after the other; see `segmentation/methods.py`."""
    network: Literal["unet", "deeplab2"] = "unet"
    """U-Net, or DeepLab v2."""
    encoder: str = "tu-tf_efficientnet_lite0"
    """U-Net: a name of segmentation_models_pytorch, or tu-NAME of timm. DeepLab v2: resnet101."""
    encoder_weights: Annotated[str, tyro.conf.arg(metavar="lite0|imagenet|none|FILE")] = "lite0"
    """lite0: ImageNet weights of EfficientNet-Lite0, installed with the examples; imagenet downloads weights; none
    starts at random; FILE is .safetensors or .pt, for DeepLab v2 also of the whole network, as pre-trained on COCO."""
    decoder_channels: tuple[int, int, int, int, int] = (128, 64, 32, 16, 16)
    """Channels of the U-Net decoder's blocks, deepest first."""
    size: Annotated[tuple[int, int], tyro.conf.arg(metavar="HEIGHT WIDTH")] = (64, 96)
    """Size of training images. Pascal VOC (and --fit crop) is cut to it at random; others are resized to it, and scored
    at it."""
    scale: Annotated[tuple[float, float], tyro.conf.arg(metavar="LOW HIGH")] = (0.75, 1.5)
    """Scale training images by a factor from this range, then cut them to --size at random."""
    colour: float = 0.0
    """Change the colours of four training images in five: brightness, contrast and saturation by factors of up to 1
    plus or minus this strength, the hue by up to half of it, in turns."""
    student_colour: float = 0.0
    """As --colour, for the unlabelled images that the student sees; the teacher does not see this change."""
    recipe: Literal["default", "paper", "hung"] = "default"
    """paper: the paper's iterations, batch and learning rate, the default for Cityscapes and Pascal VOC. hung: those of
    Hung et al. (2018)."""
    labelled: int | None = 8
    """Training images whose labels are used, chosen by the seed; None for all that have a label map."""
    subset: int | None = None
    """CamVid only: use the 30 images on this line (from 0) of `data/camvid_subsets.txt` instead."""
    iterations: int = 600
    """Optimiser steps."""
    batch_size: int = 8
    """Labelled images in a batch on each process; there are as many unlabelled ones."""
    accumulate: int = 1
    """Batches whose gradients are added up for one optimiser step."""
    learning_rate: float = 1e-3
    """Learning rate of the first iteration."""
    encoder_rate: float = 1.0
    """Factor on the encoder's learning rate; 0.1 in later code of the paper's authors."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam; or sgd with momentum 0.9 and weight decay 5e-4, as Hung et al."""
    schedule: Literal["poly", "constant"] = "poly"
    """poly decays the learning rate to 0 over the run (polynomial, power 0.9); constant keeps it."""
    consistency_weight: float = 10.0
    """Weight of the consistency loss (paper, Figure 8: good from 3 to 30, for mse)."""
    distance: Literal["mse", "sse", "bce", "ce"] = "mse"
    """mse: mean over classes (paper); sse: sum over classes (10 of mse is 10 / K, for K classes); bce; ce."""
    threshold: float = 0.97
    """Probability above which the teacher is confident (paper, C.3.4)."""
    confidence: Literal["mean", "pixel"] = "mean"
    """mean scales the loss by the share of confident pixels, as in the paper; pixel counts only those pixels."""
    teacher: Literal["ema", "self"] = "ema"
    """ema: the student's average (mean teacher); self: the student itself (Pi-model)."""
    ema: float = 0.98
    """Share of its old weights that the teacher keeps in each step (little effect, Figure 9)."""
    teacher_bn: Literal["batch", "averaged"] = "batch"
    """The teacher's batch-norm in training: statistics of its batch (as in the authors' code), or averaged buffers."""
    sigma: Annotated[tuple[float, float], tyro.conf.arg(metavar="LOW HIGH")] = (8.0, 32.0)
    """Range of the cow masks' sigma, in pixels of the paper's images; sigma scales with the shorter side of --size."""
    proportion: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = None
    """Range of the cow masks' proportion; by default 0.5 for CowMix, 0 to 1 (kept) for CowOut."""
    views: int = 1
    """Perturbed copies of each unlabelled image that the student sees in a step, each by a mask of its own."""
    mix_labelled: bool = False
    """Mix unlabelled images with labelled ones and their labels, not with other unlabelled ones."""
    transductive: bool = False
    """Add the images that are scored at the end, without their label maps, to the unlabelled ones."""
    adversarial_start: float = 0.25
    """Share of the iterations after which the adversarial method learns from its own predictions."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the network; losses and masks stay in float32."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    seed: int = 0
    """Seed of the labelled images, initial weights, batches and masks."""
    workers: int = 0
    """Processes that read ahead, for each kind of batch; 0 reads images when they are needed."""
    window: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Score by the mean probability of windows of this size that overlap by a third; by default whole images."""
    score_on: Literal["test", "val"] = "test"
    """The images to score after the last iteration. val leaves the test set alone while options are being chosen."""
    evaluate_every: int = 150
    """Iterations between evaluations on the validation set."""
    checkpoint_every: int = 500
    """Iterations between checkpoints; the last iteration always makes one."""
    resume: bool = False
    """Go on with the run in --out from its newest checkpoint; begin it if there is none."""
    overwrite: bool = False
    """Replace the run in --out."""
    out: Path = Path("runs/street")
    """Folder for logs, checkpoints, metrics.json and panel.png."""
    paper_side: Annotated[int, tyro.conf.Suppress] = 360
    """Shorter side of the images that sigma and translation refer to; 360 is CamVid's at 480x360."""
    stop_after: Annotated[Mapping[MethodName, int], tyro.conf.Suppress] = field(default_factory=dict)
    """Optimiser steps of methods that stop before the others."""

    def __post_init__(self) -> None:
        """Refuse options that would only fail later."""
        whole = ("iterations", "batch_size", "accumulate", "views", "evaluate_every", "checkpoint_every")
        low, high = self.proportion or (0.0, 1.0)
        checks = {
            "method must name at least one": bool(self.method),
            "resume and --overwrite exclude each other": not (self.resume and self.overwrite),
            "labelled must be at least 1": self.labelled is None or self.labelled >= 1,
            "size must be two lengths of at least 32 pixels": min(self.size) >= 32,
            "ema must be in [0, 1)": 0 <= self.ema < 1,
            "threshold must be in [0, 1]": 0 <= self.threshold <= 1,
            "sigma must be LOW HIGH with 0 < LOW <= HIGH": 0 < self.sigma[0] <= self.sigma[1],
            "proportion must be LOW HIGH with 0 <= LOW <= HIGH <= 1": 0 <= low <= high <= 1,
            "scale must be LOW HIGH with 0 < LOW <= HIGH": 0 < self.scale[0] <= self.scale[1],
            "window must be two lengths of at least 32 pixels": self.window is None or min(self.window) >= 32,
            "colour must be in [0, 1]": 0 <= self.colour <= 1,
            "student-colour must be in [0, 1]": 0 <= self.student_colour <= 1,
            "workers must be at least 0": self.workers >= 0,
            "seed must be from 0 to 2147483647": 0 <= self.seed < 2**31,
            "adversarial-start must be in [0, 1]": 0 <= self.adversarial_start <= 1,
            "learning-rate must be above 0": self.learning_rate > 0,
            "encoder-rate must be at least 0": self.encoder_rate >= 0,
            "consistency-weight must be at least 0": self.consistency_weight >= 0,
            "decoder-channels must be at least 1": min(self.decoder_channels) >= 1,
        } | {f"{name.replace('_', '-')} must be at least 1": getattr(self, name) >= 1 for name in whole}
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            too_large = [one for one in numbers if isinstance(one, float) and not abs(one) <= LARGEST]  # NaN is, too
            checks[f"{name.replace('_', '-')} must be a number of at most {LARGEST:g}"] = not too_large
        for rule, holds in checks.items():
            if not holds:
                raise ConfigError(f"--{rule}.")

    @property
    def _scale(self) -> float:
        return min(self.size) / self.paper_side

    @property
    def mask_sigma(self) -> tuple[float, float]:
        """Range of sigma, in pixels of the training images."""
        return self.sigma[0] * self._scale, self.sigma[1] * self._scale

    @property
    def translation(self) -> float:
        """Largest translation of standard augmentation, in pixels of the training images."""
        return PAPER_TRANSLATION * self._scale

    def iterations_of(self, method: MethodName) -> int:
        """Return the optimiser steps of a method; with the paper's recipe for CamVid some methods stop early."""
        return min(self.iterations, self.stop_after.get(method, self.iterations))


@dataclass(frozen=True)
class FolderConfig(Config, FolderOptions):
    """Options of a run on a person's own images."""

    data: tyro.conf.Suppress[tuple[Path, ...]] = ()
    recipe: tyro.conf.Suppress[Literal["default", "paper", "hung"]] = "default"
    subset: tyro.conf.Suppress[int | None] = None


Options = TypeVar("Options", bound=Config)
Presets = Callable[[Config], Options]  # the options given (data, network, recipe) to the defaults of the others


def parse(presets: Presets[Options], arguments: Sequence[str] | None = None, description: str | None = None) -> Options:
    """Read the command line twice: the options read first choose the defaults of the second reading."""
    first = presets(Config())
    chosen = tyro.cli(type(first), args=arguments, description=description, default=first)
    return tyro.cli(type(first), args=arguments, default=presets(chosen))
