"""The mean teacher trainer: one loop for every method, on one device or many."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, gather_object, set_seed
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from cowmask import consistency_loss
from segmentation.batches import Batches, labelled_subset, listed_subset
from segmentation.checkpoints import Checkpoints, write_whole
from segmentation.config import Config, ConfigError
from segmentation.datasets import VOID, Dataset, Split
from segmentation.evaluation import Scores, evaluate
from segmentation.methods import Method, MethodName, Perturbed, build_method
from segmentation.networks import build_unet
from segmentation.pictures import strips
from segmentation.tracking import trackers

_FREE_TO_CHANGE = {"data", "method", "out", "resume", "evaluate_every", "checkpoint_every"}  # when a run is resumed


def processes() -> PartialState:
    """Return which of how many processes this is; torchrun's, also on a machine without a GPU."""
    return PartialState(cpu=not torch.accelerator.is_available())


class Outcome(NamedTuple):
    """What a run ends with: scores on the test set, and what the teacher sees in its images."""

    student: Scores
    teacher: Scores
    predictions: Tensor  # (N, H, W) uint8


class Task(NamedTuple):
    """What one pass of the student is about."""

    images: Tensor  # (B, 3, H, W), labelled
    targets: Tensor  # (B, H, W)
    unlabelled: Perturbed | None


class Totals(NamedTuple):
    """Numbers of pixels in the tasks of one optimiser step, on all processes together."""

    labelled: Tensor  # not void
    valid: Tensor  # of the unlabelled images
    confident: Tensor  # of the valid ones, where the teacher is


@dataclass
class _Progress:
    """How far a run is, in the form that checkpoints take."""

    iteration: int = 0

    def state_dict(self) -> dict[str, int]:
        return {"iteration": self.iteration}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.iteration = state["iteration"]


class Trainer:
    """Train one method of one configuration. Every process of a distributed run makes one."""

    def __init__(self, config: Config, data: Dataset, name: MethodName) -> None:
        self.config, self.data, self.name = config, data, name
        self.folder = config.out / name
        self.iterations = config.iterations_of(name)
        precision = "no" if config.precision == "fp32" else config.precision
        processes()
        self.accelerator = Accelerator(mixed_precision=precision)
        if config.precision == "fp16" and self.accelerator.device.type != "cuda":
            raise ConfigError("--precision fp16 needs a CUDA device: use bf16.")
        self.device, self.world = self.accelerator.device, self.accelerator.num_processes
        self.method: Method = build_method(name, config.size, config.mask_sigma, config.proportion, config.translation)
        set_seed(config.seed)  # the same initial weights on every process
        self._build()
        set_seed(config.seed, device_specific=True)  # seed + rank: every process draws masks of its own
        self._load_batches(data.train)
        self.checkpoints = Checkpoints(self.folder, self.accelerator)
        self._prepare_folder()

    def _build(self) -> None:
        config = self.config
        student = build_unet(config.encoder, config.encoder_weights, len(self.data.classes), config.decoder_channels)
        student = student.to(self.device).to(memory_format=torch.channels_last)
        decay = config.ema if config.teacher == "ema" else 0.0  # 0: the student itself (Pi-model)
        self.teacher = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.teacher.requires_grad_(False)
        for module in self.teacher.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.0  # its buffers are the student's, averaged, also where it predicts by batch
        if config.compile:
            torch.compiler.reset()  # the graphs of an earlier method's networks count against the limit
            student.compile()
            self.teacher.module.compile()
        optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
        power = 0.9 if config.schedule == "poly" else 0.0
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, self.iterations, power)
        self.student, self.optimizer = self.accelerator.prepare(student, optimizer)
        self.progress = _Progress()

    def _load_batches(self, train: Split) -> None:
        config, n = self.config, len(train.images)
        if self.method.all_labels:
            chosen = list(range(n))
        elif config.subset is not None:
            chosen = listed_subset(train.names, config.subset)
        else:
            chosen = labelled_subset(n, config.labelled, config.seed)
        place = (self.device, self.accelerator.process_index, self.world)
        labelled = (train.images[chosen], train.labels(chosen))
        self._labelled = Batches(labelled, config.batch_size, config.seed, *place)
        self._unlabelled = Batches((train.images,), config.batch_size, config.seed + 1, *place)
        self.accelerator.register_for_checkpointing(
            self.teacher, self.scheduler, self.progress, self._labelled, self._unlabelled
        )

    def _prepare_folder(self) -> None:
        """Make the run's folder; without `resume`, clear it of an earlier run's files."""
        options = {key: str(value) for key, value in asdict(self.config).items() if key not in _FREE_TO_CHANGE}
        options["processes"] = str(self.world)
        path = self.folder / "options.json"
        begun = self.config.resume and path.exists()
        if begun:
            changed = [key for key, value in json.loads(path.read_text()).items() if options.get(key) != value]
            if changed:
                raise ConfigError(
                    f"{self.folder} was begun with other options ({', '.join(changed)}): cannot resume it."
                )
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process and not begun:
            self.checkpoints.clear()
            shutil.rmtree(self.folder / "tensorboard", ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("log.csv", "teacher.pt"):
                (self.folder / name).unlink(missing_ok=True)
            write_whole(path, json.dumps(options, indent=2) + "\n")
        self.accelerator.wait_for_everyone()

    def draw_unlabelled(self) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1]."""
        return self._unlabelled.draw()[0]

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Return the teacher's probabilities (B, K, H, W), float32."""
        with self.accelerator.autocast():
            return self.teacher(images).float().softmax(1)

    @torch.no_grad()
    def _draw_task(self) -> Task:
        images, targets = self._labelled.draw()
        perturb = self.method.perturb
        return Task(images, targets, None if perturb is None else perturb(self.draw_unlabelled, self.teach))

    def _count(self, tasks: list[Task]) -> Totals:
        counts = []
        for task in tasks:
            labelled = (task.targets != VOID).sum()
            valid = confident = torch.zeros_like(labelled)
            if task.unlabelled is not None:
                where = _valid(task.unlabelled)
                valid = where.sum()
                confident = (
                    (task.unlabelled.probabilities.amax(1, keepdim=True) > self.config.threshold) & where
                ).sum()
            counts.append(torch.stack([labelled, valid, confident]))
        labelled, valid, confident = self.accelerator.reduce(torch.stack(counts).sum(0))
        return Totals(labelled.clamp(min=1), valid.clamp(min=1), confident)

    def _losses(self, task: Task, totals: Totals) -> dict[str, Tensor]:
        """Return this task's part of the losses: summed over tasks and averaged over processes they are the step's."""
        config, perturbed = self.config, task.unlabelled
        # One pass for both: in two, batch-norm lets the student tell mixed images from labelled ones by their
        # statistics, and what it learns of the one does not serve the other.
        shown = task.images if perturbed is None else torch.cat([task.images, perturbed.images])
        with self.accelerator.autocast():
            logits = self.student(shown).float()
        n = len(task.images)
        supervised = F.cross_entropy(logits[:n], task.targets, ignore_index=VOID, reduction="sum")
        losses = {"loss/supervised": supervised / totals.labelled * self.world}
        if perturbed is not None:
            per_pixel = config.confidence == "pixel"
            # The mean confidence is over all tasks and processes, so it comes from `totals`, and not from the loss
            # itself, which without a threshold has none.
            distance = consistency_loss(
                logits[n:],
                perturbed.probabilities,
                perturbed.mask,
                valid=perturbed.valid,
                threshold=config.threshold if per_pixel else 0.0,
                per_pixel=per_pixel,
            )
            share = _valid(perturbed).sum() / totals.valid * self.world
            factor = 1.0 if per_pixel else totals.confident / totals.valid
            losses["loss/consistency"] = distance * share * factor
        return losses

    def step(self) -> dict[str, Tensor]:
        """Take one optimiser step and return its scalars, on the device."""
        config = self.config
        self.student.train()
        self.teacher.train(config.teacher_bn == "batch")
        tasks = [self._draw_task() for _ in range(config.accumulate)]
        totals = self._count(tasks)
        scalars: dict[str, Tensor] = {}
        for task in tasks:
            last = task is tasks[-1]
            with nullcontext() if last else self.accelerator.no_sync(self.student):
                losses = self._losses(task, totals)
                weights = {"loss/supervised": 1.0, "loss/consistency": config.consistency_weight}
                self.accelerator.backward(sum(weights[name] * loss for name, loss in losses.items()))
            scalars = {name: scalars.get(name, 0) + loss.detach() for name, loss in losses.items()}
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:  # by the gradient scaler of fp16
            self.scheduler.step()
        self.teacher.update_parameters(self.accelerator.unwrap_model(self.student))
        if tasks[0].unlabelled is not None:
            scalars["confidence"] = totals.confident / totals.valid
        return scalars

    def fit(self) -> Outcome:
        """Train to the last iteration and score the test set."""
        config = self.config
        if config.resume:
            self.checkpoints.load_newest()
        self.trackers = trackers(self.folder, self.progress.iteration) if self.accelerator.is_main_process else []
        with tqdm(
            total=self.iterations,
            initial=self.progress.iteration,
            desc=self.name,
            dynamic_ncols=True,
            disable=not self.accelerator.is_main_process,
        ) as bar:
            while self.progress.iteration < self.iterations:
                scalars = self.step()
                self.progress.iteration += 1
                bar.update()
                done = self.progress.iteration
                if done % 10 == 0 or done == self.iterations:  # reading them back waits for the device
                    values = {name: value.item() for name, value in self.accelerator.reduce(scalars, "mean").items()}
                    self._log(values)
                    bar.set_postfix({name.split("/")[-1]: f"{value:.3f}" for name, value in values.items()})
                if done % config.evaluate_every == 0 and done < self.iterations:
                    self._validate()
                if done % config.checkpoint_every == 0 or done == self.iterations:
                    self.checkpoints.save(self.progress.iteration)
        return self._test()

    def _log(self, values: dict[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(values, step=self.progress.iteration)

    def _scores(self, split: Split) -> tuple[Scores, Scores, Tensor]:
        """Return the scores of student and teacher, and the teacher's class maps (N, H, W)."""
        self._share_buffers()
        student, _ = evaluate(
            self.accelerator.unwrap_model(self.student), split, len(self.data.classes), self.accelerator
        )
        teacher, mine = evaluate(self.teacher, split, len(self.data.classes), self.accelerator)
        maps = torch.empty(len(split.images), *split.images.shape[2:], dtype=torch.uint8)
        for rank, part in enumerate(gather_object([mine])):
            maps[rank :: self.world] = part
        return student, teacher, maps

    def _share_buffers(self) -> None:
        """Give every process the first one's batch-norm statistics: between steps they differ."""
        if self.world > 1:
            for network in (self.accelerator.unwrap_model(self.student), self.teacher.module):
                for buffer in network.buffers():
                    broadcast(buffer)  # in place

    def _validate(self) -> None:
        student, teacher, predictions = self._scores(self.data.val)
        self._log({"val/miou_student": student.miou, "val/miou_teacher": teacher.miou})
        for tracker in self.trackers:
            if tracker.name == "tensorboard":
                pictures = strips(self.data.val, predictions, self.data.classes)
                tracker.log_images({"val/image_truth_teacher": pictures}, self.progress.iteration, dataformats="NHWC")

    def _test(self) -> Outcome:
        outcome = Outcome(*self._scores(self.data.test))
        self._log({"test/miou_student": outcome.student.miou, "test/miou_teacher": outcome.teacher.miou})
        for tracker in self.trackers:
            tracker.finish()
        self.accelerator.save(self.teacher.module.state_dict(), self.folder / "teacher.pt")
        return outcome


def _valid(perturbed: Perturbed) -> Tensor:
    """Return where there is an image, (B, 1, H, W) bool."""
    everywhere = torch.ones_like(perturbed.images[:, :1], dtype=torch.bool)
    return everywhere if perturbed.valid is None else perturbed.valid
