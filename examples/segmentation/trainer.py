"""The mean teacher trainer: one loop for every method, on one device or many."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, set_seed
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from tqdm import tqdm

from cowmask import MeanTeacher
from segmentation.adversarial import Adversarial
from segmentation.checkpoints import Checkpoints, RandomStates, Stateful
from segmentation.config import Config, ConfigError
from segmentation.data.batches import Batches, Crops, Shard, UnlabelledBatch, labelled_images
from segmentation.data.datasets import VOID, Dataset, Split
from segmentation.distributed import on_first, processes
from segmentation.errors import UserError
from segmentation.evaluation import Evaluation, evaluate
from segmentation.finite import Watch
from segmentation.methods import Method, MethodName, build_methods
from segmentation.networks import Segmenter, build_network, freeze_unused, rehearse
from segmentation.objectives import Consistency, LabelledLogits, Objective, StudentLogits, Totals
from segmentation.outputs import options_of
from segmentation.pictures import comparison_strips, evenly_spaced
from segmentation.saved import FILE, Trained, save_network
from segmentation.storage import naming
from segmentation.tracking import print_duration, trackers

TIMED = 10  # iterations, after which a run says how long it will take


class TrainingError(UserError):
    """The training cannot go on; the message is one sentence for the user."""


class Outcome(NamedTuple):
    """A run's test scores, with class maps of a few images; the same on every process."""

    student: Evaluation
    teacher: Evaluation
    seconds: float  # of the training, evaluations on the validation set included


class StepData(NamedTuple):
    """One batch, for one pass of the student; a step has several if gradients are accumulated."""

    images: Tensor  # (B, 3, H, W), labelled
    targets: Tensor  # (B, H, W)
    unlabelled: Any  # what the objective drew; None without an objective


@dataclass
class _Progress:
    """How far a training is, in the form that checkpoints take."""

    iteration: int = 0  # iterations done
    seconds: float = 0.0  # since its beginning, pauses left out

    def state_dict(self) -> dict[str, float]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.iteration, self.seconds = int(state["iteration"]), state["seconds"]


class Trainer:
    """Train one method; every process of a distributed run makes its own trainer."""

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
        set_seed(config.seed)  # the same initial weights on every process
        self._build()
        set_seed(config.seed, device_specific=True)  # seed + rank: every process draws its own masks
        self._load_batches()
        self.checkpoints = Checkpoints(self.folder, options_of(config, data, self.world))

    def _build(self) -> None:
        config, n_classes = self.config, len(self.data.classes)
        student = build_network(
            config.network, config.encoder, config.encoder_weights, n_classes, config.decoder_channels
        )
        if self.accelerator.is_main_process:
            print(*student.report, sep="\n", end="\n" if student.report else "")
        if self.world > 1:
            freeze_unused(student, config.batch_size, config.size)
        student = convert_conv2d_weight_memory_format(student.to(self.device), torch.channels_last)
        methods = build_methods(
            config.size, config.mask_sigma, config.proportion, config.translation, student.mean_colour
        )
        self.method: Method = methods[self.name]
        # Without a teacher (Pi-model, adversarial) the average has decay 0: it is the student.
        self.has_teacher = config.teacher == "ema" and not self.method.adversarial
        decay = config.ema if self.has_teacher else 0.0
        self.teacher = MeanTeacher(student, decay)
        if config.compile:
            torch.compiler.reset()  # an earlier method's graphs count against the limit
            student.compile()
            self.teacher.module.compile()
        optimizer = _optimizer(student, config)
        power = 0.9 if config.schedule == "poly" else 0.0
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, self.iterations, power)
        self.student, self.optimizer = self.accelerator.prepare(student, optimizer)
        self.progress = _Progress()
        self.objective: Objective[Any] | None = None
        if self.method.perturb is not None:
            self.objective = Consistency(config, self.method.perturb, self.draw_unlabelled, self.teach)
        elif self.method.adversarial:
            start = round(config.adversarial_start * self.iterations)
            self.objective = Adversarial(n_classes, self.draw_unlabelled, self.accelerator, self.iterations, start)

    def _load_batches(self) -> None:
        config, train = self.config, self.data.train
        chosen = labelled_images(self.data, config.labelled, config.seed, config.subset, self.method.all_labels)
        shard = Shard(self.device, self.accelerator.process_index, self.world)
        labelled = Crops(train, chosen, config.size, config.scale, labelled=True)
        every = Crops(train, range(len(train.names)), config.size, config.scale, labelled=False)
        serve = partial(
            Batches, batch_size=config.batch_size, shard=shard, workers=config.workers, colour=config.colour
        )
        self._labelled = serve(labelled, seed=config.seed)
        self._unlabelled = serve(every, seed=config.seed + 1)

    def _parts(self) -> Mapping[str, Stateful]:
        """Return all that a checkpoint holds."""
        parts: dict[str, Stateful] = {
            "student": self.accelerator.unwrap_model(self.student),
            "teacher": self.teacher,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "progress": self.progress,
            "labelled": self._labelled,
            "unlabelled": self._unlabelled,
            "random": RandomStates(self.device),
            **(self.objective.parts if self.objective else {}),
        }
        return parts | ({"scaler": self.accelerator.scaler} if self.accelerator.scaler else {})

    def draw_unlabelled(self) -> UnlabelledBatch:
        """Return the next unlabelled images."""
        return self._unlabelled.draw_unlabelled()

    def teach(self, images: Tensor) -> Tensor:
        """Return the teacher's probabilities (B, K, H, W), float32."""
        with self.accelerator.autocast():
            return self.teacher(images, statistics=self.config.teacher_bn).float().softmax(1)

    @torch.no_grad()
    def _draw_step_data(self) -> StepData:
        labelled = self._labelled.draw()
        drawn = self.objective.draw(self.progress.iteration, labelled) if self.objective else None
        return StepData(*labelled, drawn)

    def _count(self, batches: list[StepData]) -> Totals:
        """Count labelled pixels, and what the objective counts, over batches and processes."""
        counts = []
        for batch in batches:
            labelled = (batch.targets != VOID).sum()
            zero = torch.zeros_like(labelled)
            valid, extra = self.objective.counts(batch.unlabelled) if self.objective else (zero, zero)
            counts.append(torch.stack([labelled, valid, extra]))
        labelled, valid, extra = self.accelerator.reduce(torch.stack(counts).sum(0))
        return Totals(labelled, valid, extra, self.world)

    def _student_forward(self, batch: StepData) -> StudentLogits:
        # One pass: in two, batch-norm lets the student recognise mixed images by their statistics, and what it learns
        # from them does not help with labelled ones.
        images = batch.images if batch.unlabelled is None else torch.cat([batch.images, batch.unlabelled.images])
        with self.accelerator.autocast():
            logits = self.student(images).float()  # (labelled + unlabelled, K, H, W)
        n = len(batch.images)
        return StudentLogits(logits[:n], batch.targets, logits[n:])

    def _losses(self, logits: StudentLogits, batch: StepData, totals: Totals) -> dict[str, Tensor]:
        """Return a batch's part of the losses."""
        entropy = F.cross_entropy(logits.labelled, logits.targets, ignore_index=VOID, reduction="sum")
        losses = {"loss/supervised": totals.mean(entropy, totals.labelled)}
        if self.objective:
            losses |= self.objective.losses(logits, batch.unlabelled, totals)
        return losses

    def step(self) -> dict[str, Tensor]:
        """Take one optimiser step and return its scalars, on the device."""
        self.student.train()

        # 1. Draw all batches, with the teacher's predictions. Losses are means over the whole step: count its pixels.
        batches = [self._draw_step_data() for _ in range(self.config.accumulate)]
        totals = self._count(batches)

        # 2. The student's forward and backward pass, batch by batch; the last one exchanges gradients.
        weights = {"loss/supervised": 1.0, **(self.objective.weights if self.objective else {})}
        scalars: dict[str, Tensor] = {}
        labelled = []
        for batch in batches:
            last = batch is batches[-1]
            with nullcontext() if last else self.accelerator.no_sync(self.student):
                logits = self._student_forward(batch)  # labelled and unlabelled: (B, K, H, W) each
                losses = self._losses(logits, batch, totals)
                self.accelerator.backward(sum(weights[name] * loss for name, loss in losses.items()))
            scalars = {name: scalars.get(name, 0) + loss.detach() for name, loss in losses.items()}
            if self.objective and self.objective.trains_itself:
                # A slice would keep the unlabelled logits in memory.
                labelled.append(LabelledLogits(logits.labelled.detach().clone(), logits.targets))

        # 3. Move the student, then let the teacher follow.
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.optimizer.step_was_skipped:  # by the gradient scaler of fp16
            self.scheduler.step()
        self.teacher.update(self.student)

        # 4. Train the objective's own network, if any.
        if self.objective:
            scalars |= self.objective.after_step(labelled, totals)
        return scalars

    def fit(self) -> Outcome:
        """Train to the last iteration and score the test set."""
        config = self.config
        self._rehearse()
        if config.resume:
            checkpoint = self.checkpoints.load_newest(self._parts())
            on_first(lambda: print(f"{self.name}: going on from {checkpoint or 'iteration 0'}."))
        began = time.perf_counter() - self.progress.seconds
        watch = Watch(self.accelerator, self.progress.iteration)
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
                logs = done % 10 == 0 or done == self.iterations  # reading back waits for the device
                evaluates = done % config.evaluate_every == 0 and done < self.iterations
                saves = done % config.checkpoint_every == 0 or done == self.iterations
                watch.note([*scalars.values(), *(self._weights() if saves else ())])
                if logs or evaluates or saves or not watch.waits:
                    count = watch.count()
                    if count < done:
                        on_first(partial(self._stop, count + 1))
                if logs:
                    values = {name: value.item() for name, value in self.accelerator.reduce(scalars, "mean").items()}
                    self._log(values)
                    bar.set_postfix({name.split("/")[-1]: f"{value:.3f}" for name, value in values.items()})
                if self.accelerator.is_main_process and done == bar.initial + TIMED:
                    print_duration(bar)
                if evaluates:
                    self._validate()
                if saves:
                    self._share_buffers()  # those of the other processes are not saved
                    self.progress.seconds = time.perf_counter() - began
                    self.checkpoints.save(done, self._parts())
        for batches in (self._labelled, self._unlabelled):
            batches.close()  # left to the garbage collector, each would wait 5 seconds for its workers
        return self._test()

    def _rehearse(self) -> None:
        """Check the network before the first step."""
        size, (height, width) = self.config.size, self.config.window or self.config.size
        tested = (height + 32, width + 32) if self.data.own_sizes else (min(height, size[0]), min(width, size[1]))
        rehearse(self.accelerator.unwrap_model(self.student), self.config.batch_size, size, tested)

    def _weights(self) -> list[Tensor]:
        networks = [part for part in self._parts().values() if isinstance(part, nn.Module)]
        return [tensor for network in networks for tensor in network.state_dict().values()]

    def _stop(self, iteration: int) -> None:
        """Say why the training ends at an iteration."""
        kept = self.checkpoints.newest()
        raise TrainingError(
            f"loss or weights of {self.name} are not finite in iteration {iteration}: train anew with a lower "
            f"--learning-rate than {self.config.learning_rate:g}"
            + (", or with --precision fp32" if self.config.precision != "fp32" else "")
            + (f"; {kept} is from before." if kept else "; there is no checkpoint from before.")
        )

    def _log(self, values: dict[str, float]) -> None:
        with naming(self.folder):
            for tracker in self.trackers:
                tracker.log(values, step=self.progress.iteration)

    def _evaluate(self, data: Dataset, split: Split, keep: list[int]) -> tuple[Evaluation, Evaluation]:
        """Score student and teacher; the teacher's class maps of the images to keep are on every process."""
        self._share_buffers()
        teacher = student = evaluate(self.teacher.module, data, split, self.config, self.accelerator, keep)
        if self.has_teacher:
            network = self.accelerator.unwrap_model(self.student)
            student = evaluate(network, data, split, self.config, self.accelerator)
        parts = gather_object([teacher.maps])
        return student, teacher._replace(maps={number: one for part in parts for number, one in part.items()})

    def _share_buffers(self) -> None:
        """Give every process the batch-norm statistics of the first one."""
        if self.world > 1:
            for network in (self.accelerator.unwrap_model(self.student), self.teacher.module):
                for buffer in network.buffers():
                    broadcast(buffer)  # in place

    def _validate(self) -> None:
        split, data = self.data.val, replace(self.data, full_size=None)  # scores at full size are not logged
        student, teacher = self._evaluate(data, split, evenly_spaced(len(split.names)))
        self._log({"val/miou_student": student.scores.miou, "val/miou_teacher": teacher.scores.miou})
        for tracker in self.trackers:
            if tracker.name == "tensorboard":
                pictures = comparison_strips(self.data, split, teacher.maps, self.config.size)
                with naming(self.folder):
                    tracker.log_images(
                        {"val/image_truth_teacher": pictures}, self.progress.iteration, dataformats="NHWC"
                    )

    def _test(self) -> Outcome:
        split = self.data.test
        student, teacher = self._evaluate(self.data, split, evenly_spaced(len(split.names)))
        self._log({"test/miou_student": student.scores.miou, "test/miou_teacher": teacher.scores.miou})
        for tracker in self.trackers:
            tracker.finish()
        size = None if self.data.own_sizes else self.config.size
        trained = Trained(cast(Segmenter, self.teacher.module), self.data.classes, self.data.colours, size)
        on_first(lambda: save_network(self.folder / FILE, trained))
        return Outcome(student, teacher, self.progress.seconds)


def _optimizer(network: Segmenter, config: Config) -> torch.optim.Optimizer:
    encoder: dict[str, Any] = {"params": network.encoder_parameters(), "lr": config.encoder_rate * config.learning_rate}
    groups = [encoder, {"params": network.head_parameters()}]
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, weight_decay=5e-4)
