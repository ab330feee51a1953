"""One training: a network, its augmentation, and the loss of the two arrangements."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classification.data import Dataset, Images, choose_labelled
from classification.methods import Arrangement, Method, Settings, build
from cowmask import MeanTeacher, consistency_loss

SCORED_AT_ONCE = 500  # images


@dataclass(frozen=True)
class Job:
    """One training of one method."""

    arrangement: Arrangement
    method: Method
    settings: Settings
    labelled: int  # images whose labels are used
    seed: int  # of the choice of these images, of weights, batches and masks
    iterations: int
    batch_size: int  # labelled images in a batch; with a mean teacher, there are as many unlabelled ones
    width: int  # channels of the network's first layers
    ema: float  # share of its old weights that the teacher keeps in each step


class Scores(NamedTuple):
    """Accuracies in [0, 1]."""

    student: float
    teacher: float


def make_network(channels: int, classes: int, width: int) -> nn.Sequential:
    """Return a small convolutional network, from images (B, channels, H, W) to logits (B, classes)."""

    def block(inputs: int, outputs: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    return nn.Sequential(
        *(block(channels, width), block(width, width), nn.MaxPool2d(2)),
        *(block(width, 2 * width), block(2 * width, 2 * width), nn.MaxPool2d(2)),
        block(2 * width, 2 * width),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes)),
    )


def shifted(images: Tensor, most: int) -> Tensor:
    """Move each image (B, C, H, W) by up to `most` pixels along both axes; what comes in from outside is 0."""
    n, _, height, width = images.shape
    windows = F.pad(images, [most] * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B, C, down, right, H, W)
    down, right = torch.randint(2 * most + 1, (2, n), device=images.device)
    return windows[torch.arange(n, device=images.device), :, down, right]


def augmented(images: Tensor, data: Dataset) -> Tensor:
    """Move images (B, C, H, W), and mirror half of them if that keeps their classes, whatever the method is."""
    images = shifted(images, data.shift)
    if not data.flips:
        return images
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def supervised_loss(student: nn.Module, transform: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of transformed images; their labels are mixed by the measured area."""
    images, labels = transform(images, labels)
    return F.cross_entropy(student(images), labels)


def mean_teacher_loss(
    student: nn.Module,
    teacher: MeanTeacher,
    transform: nn.Module,
    labelled: tuple[Tensor, Tensor],
    views: tuple[Tensor, Tensor],
    settings: Settings,
) -> Tensor:
    """Return the cross-entropy of labelled images, plus the consistency loss of unlabelled ones.

    Args:
        student: Network to train.
        teacher: Its average.
        transform: What is done to the student's view.
        labelled: Images (B, C, H, W) and their classes (B,).
        views: The same unlabelled images (B, C, H, W) augmented twice: the teacher's view, and the student's.
        settings: Weight and threshold of the consistency loss.
    """
    images, labels = labelled
    probs = teacher(views[0]).softmax(1)
    sure = (probs.amax(1, keepdim=True) > settings.threshold).float()  # (B, 1), of each image before it is mixed
    x, probs, sure = transform(views[1], probs, sure)  # by the same mask, and so by the same area
    # One pass for labelled and unlabelled images, so that batch-norm treats them alike.
    logits, logits_x = student(torch.cat([images, x])).split([len(images), len(x)])
    consistency = consistency_loss(logits_x, probs, confidence=sure[:, 0], per_pixel=True)
    return F.cross_entropy(logits, labels) + settings.weight * consistency


def train(data: Dataset, job: Job, scored_on: Images) -> Scores:
    """Train student and teacher, and score both on images that they did not see, once."""
    labelled = choose_labelled(data.train.labels, job.labelled, data.classes, job.seed)
    torch.manual_seed(job.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student = make_network(data.channels, data.classes, job.width).to(device)
    teacher = MeanTeacher(student, decay=job.ema)
    settings = job.settings
    optimizer = torch.optim.AdamW(
        student.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.iterations)
    transform = build(job.method, settings, data).to(device)

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        chosen = indices[torch.randint(len(indices), (job.batch_size,))]
        return _as_input(data, data.train.pixels[chosen]).to(device), data.train.labels[chosen].to(device)

    everything = torch.arange(len(data.train))
    student.train()
    for _ in range(job.iterations):
        images, labels = batch(labelled)
        images = augmented(images, data)
        if job.arrangement == "supervised":
            loss = supervised_loss(student, transform, images, labels)
        else:
            x, _ = batch(everything)
            views = augmented(x, data), augmented(x, data)
            loss = mean_teacher_loss(student, teacher, transform, (images, labels), views, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        teacher.update(student)
    return Scores(*(accuracy(network.eval(), data, scored_on, device) for network in (student, teacher.module)))


@torch.no_grad()
def accuracy(network: nn.Module, data: Dataset, images: Images, device: str) -> float:
    """Return the share of images whose class is predicted, by the averaged statistics of batch-norm."""
    right = 0
    for pixels, labels in zip(images.pixels.split(SCORED_AT_ONCE), images.labels.split(SCORED_AT_ONCE), strict=True):
        right += int((network(_as_input(data, pixels).to(device)).argmax(1).cpu() == labels).sum())
    return right / len(images)


def _as_input(data: Dataset, pixels: Tensor) -> Tensor:
    """Return images (B, C, H, W) in [0, 1]."""
    return pixels.float() / data.largest
