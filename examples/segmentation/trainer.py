"""The mean teacher trainer: one loop for every method."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from cowmask import consistency_loss
from segmentation.config import Config, ConfigError
from segmentation.datasets import VOID, DataError, Dataset, Split
from segmentation.evaluation import Scores, predict, score
from segmentation.methods import Method, MethodName, build_method
from segmentation.networks import build_unet
from segmentation.tracking import trackers

_FREE_TO_CHANGE = {"data", "method", "out", "resume", "evaluate_every", "checkpoint_every"}  # when a run is resumed


class Outcome(NamedTuple):
    """What a run ends with: scores on the test set, and what the teacher sees in its images."""

    student: Scores
    teacher: Scores
    predictions: Tensor  # (N, H, W) uint8


def shuffled_batches(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of indices below `n` for ever, every index once in each pass."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < batch_size:
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        batch, queue = queue[:batch_size], queue[batch_size:]
        yield batch


def labelled_subset(n: int, labelled: int, seed: int) -> list[int]:
    """Return which `labelled` of `n` images the seed stands for, in order."""
    if labelled > n:
        raise DataError(f"--labelled {labelled} is more than the {n} images of the training set.")
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:labelled]
    return sorted(chosen.tolist())


@dataclass
class _Progress:
    """How far a run is, in the form that checkpoints take."""

    iteration: int = 0
    labelled_batches: int = 0
    unlabelled_batches: int = 0

    def state_dict(self) -> dict[str, int]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, int]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Trainer:
    """Train one method of one configuration."""

    def __init__(self, config: Config, data: Dataset, name: MethodName) -> None:
        self.config, self.data, self.name = config, data, name
        self.folder = config.out / name
        precision = "no" if config.precision == "fp32" else config.precision
        self.accelerator = Accelerator(mixed_precision=precision, log_with=trackers(self.folder))
        self.device = self.accelerator.device
        set_seed(config.seed, device_specific=True)  # seed + rank: every rank draws different masks
        self.method: Method = build_method(name, config.mask_sigma)
        self._build()
        self._load_batches(data.train)
        self._prepare_folder()

    def _prepare_folder(self) -> None:
        """Make the run's folder; without `resume`, clear it of an earlier run's files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {key: str(value) for key, value in asdict(self.config).items() if key not in _FREE_TO_CHANGE}
        path = self.folder / "options.json"
        if self.config.resume and path.exists():
            changed = [key for key, value in json.loads(path.read_text()).items() if options.get(key) != value]
            if changed:
                raise ConfigError(
                    f"{self.folder} was begun with other options ({', '.join(changed)}): cannot resume it."
                )
        elif not self.config.resume:
            for folder in (*self._checkpoints(), self.folder / "tensorboard"):
                shutil.rmtree(folder, ignore_errors=True)
            (self.folder / "log.csv").unlink(missing_ok=True)
        path.write_text(json.dumps(options, indent=2) + "\n")

    def _build(self) -> None:
        config = self.config
        student = build_unet(config.encoder, config.encoder_weights, len(self.data.classes), config.decoder_channels)
        student = student.to(self.device).to(memory_format=torch.channels_last)
        self.teacher = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        self.teacher.requires_grad_(False)
        for module in self.teacher.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.0  # its buffers are the student's, averaged, also where it predicts by batch
        optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
        self.student, self.optimizer = self.accelerator.prepare(student, optimizer)
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, config.iterations, power=0.9)
        self.progress = _Progress()
        self.accelerator.register_for_checkpointing(self.teacher, self.scheduler, self.progress)

    def _load_batches(self, train: Split) -> None:
        config, n = self.config, len(train.images)
        chosen = list(range(n)) if self.method.all_labels else labelled_subset(n, config.labelled, config.seed)
        self.labelled_images, self.labels = train.images[chosen], train.labels(chosen)
        self._labelled = shuffled_batches(len(chosen), config.batch_size, config.seed)
        self._unlabelled = shuffled_batches(n, config.batch_size, config.seed + 1)
        self._flip_both = K.AugmentationSequential(K.RandomHorizontalFlip(), data_keys=["input", "mask"])
        self._flip = K.RandomHorizontalFlip()

    def draw_labelled(self) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) in [0, 1] and labels (B, H, W)."""
        indices = next(self._labelled)
        self.progress.labelled_batches += 1
        images, labels = self._to_device(self.labelled_images[indices]), self.labels[indices].to(self.device)
        images, targets = self._flip_both(images, labels[:, None].float())
        return images.contiguous(memory_format=torch.channels_last), targets[:, 0].long()

    def draw_unlabelled(self) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1]."""
        self.progress.unlabelled_batches += 1
        images = self._flip(self._to_device(self.data.train.images[next(self._unlabelled)]))
        return images.contiguous(memory_format=torch.channels_last)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True).float() / 255

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Tensor:
        """Return the teacher's probabilities (B, K, H, W)."""
        return self.teacher(images).softmax(1)

    def step(self) -> dict[str, Tensor]:
        """Take one optimiser step and return its scalars, on the device."""
        config = self.config
        self.student.train()
        self.teacher.train(config.teacher_bn == "batch")
        images, targets = self.draw_labelled()
        with self.accelerator.autocast():
            shown, taught = images, None
            if self.method.perturb is not None:
                # One pass for both: in two, batch-norm lets the student tell mixed images from labelled ones by their
                # statistics, and what it learns of the one does not serve the other.
                mixed, taught = self.method.perturb(self.draw_unlabelled, self._teach)
                shown = torch.cat([images, mixed])
            logits = self.student(shown)
            loss = F.cross_entropy(logits[: len(images)], targets, ignore_index=VOID)
            scalars = {"loss/supervised": loss.detach()}
            if taught is not None:
                consistency = consistency_loss(logits[len(images) :], taught, threshold=config.threshold)
                loss = loss + config.consistency_weight * consistency
                scalars["loss/consistency"] = consistency.detach()
                scalars["confidence"] = (taught.amax(1) > config.threshold).float().mean()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.teacher.update_parameters(self.accelerator.unwrap_model(self.student))
        return scalars

    def fit(self) -> Outcome:
        """Train to the last iteration and score the test set."""
        config = self.config
        self.accelerator.init_trackers("run")
        if config.resume:
            self._resume()
        with tqdm(total=config.iterations, initial=self.progress.iteration, desc=self.name, dynamic_ncols=True) as bar:
            while self.progress.iteration < config.iterations:
                scalars = self.step()
                self.progress.iteration += 1
                bar.update()
                done = self.progress.iteration
                if done % 10 == 0 or done == config.iterations:  # reading them back waits for the device
                    values = {name: value.item() for name, value in scalars.items()}
                    self.accelerator.log(values, step=done)
                    bar.set_postfix({name.split("/")[-1]: f"{value:.3f}" for name, value in values.items()})
                if done % config.evaluate_every == 0 and done < config.iterations:
                    self._validate()
                if done % config.checkpoint_every == 0 or done == config.iterations:
                    self._save()
        return self._test()

    def _scores(self, split: Split) -> tuple[Scores, Scores, Tensor]:
        labels, n_classes = split.labels(range(len(split.images))), len(self.data.classes)
        with self.accelerator.autocast():
            by_student, by_teacher = (
                predict(network, split.images, self.device) for network in (self.student, self.teacher)
            )
        return score(by_student, labels, n_classes), score(by_teacher, labels, n_classes), by_teacher

    def _validate(self) -> None:
        student, teacher, _ = self._scores(self.data.val)
        values = {"val/miou_student": student.miou, "val/miou_teacher": teacher.miou}
        self.accelerator.log(values, step=self.progress.iteration)

    def _test(self) -> Outcome:
        outcome = Outcome(*self._scores(self.data.test))
        values = {"test/miou_student": outcome.student.miou, "test/miou_teacher": outcome.teacher.miou}
        self.accelerator.log(values, step=self.progress.iteration)
        self.accelerator.end_training()
        self.accelerator.save(self.teacher.module.state_dict(), self.folder / "teacher.pt")
        return outcome

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*"))

    def _save(self) -> None:
        old = self._checkpoints()
        target = self.folder / f"checkpoint-{self.progress.iteration:08d}"
        writing = self.folder / "writing"
        # Not safetensors: it refuses channels_last weights.
        self.accelerator.save_state(str(writing), safe_serialization=False)
        if target in old:
            shutil.rmtree(target)
        writing.rename(target)  # whole or not at all
        for checkpoint in old:
            if checkpoint != target:
                shutil.rmtree(checkpoint)

    def _resume(self) -> None:
        if checkpoints := self._checkpoints():
            self.accelerator.load_state(str(checkpoints[-1]))
            for _ in range(self.progress.labelled_batches):
                next(self._labelled)
            for _ in range(self.progress.unlabelled_batches):
                next(self._unlabelled)
