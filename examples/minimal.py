"""Semi-supervised segmentation with CowMix in one plain PyTorch loop: the file to copy.

    python examples/minimal.py

It segments coloured shapes drawn on the fly; a few images are labelled. To use it on your data, replace `draw_shapes`
by your loaders and `make_network` by your network.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cowmask import CowMix, consistency_loss

CLASSES = 3  # background, disc, square
SIZE = 64  # pixels
BATCH = 8
LABELLED = 8  # images with labels
ITERATIONS = 400
CONSISTENCY_WEIGHT = 10.0  # good from 3 to 30
EMA = 0.99  # share of its weights that the teacher keeps each step
SIGMA = (1.0, 4.0)  # of the cow masks, pixels; the paper takes 4-16 at 480x360


def draw_shapes(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noisy images (n, 3, SIZE, SIZE) of discs and squares, and their labels (n, SIZE, SIZE)."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    labels = torch.zeros(n, SIZE, SIZE, dtype=torch.long)
    images = torch.rand(n, 3, 1, 1, generator=generator).expand(-1, -1, SIZE, SIZE).clone()
    for label in (1, 2, 1, 2):
        row, column = torch.randint(SIZE, (2, n, 1, 1), generator=generator)
        reach = torch.randint(9, 18, (n, 1, 1), generator=generator)
        down, right = (y - row).abs(), (x - column).abs()
        inside = down**2 + right**2 < reach**2 if label == 1 else torch.maximum(down, right) < reach
        labels[inside] = label
        colour = 0.6 * torch.rand(n, 3, 1, 1, generator=generator)
        colour[:, label] += 0.4  # discs tend to green, squares to blue
        images = torch.where(inside[:, None], colour, images)
    return images + 0.1 * torch.randn(images.shape, generator=generator), labels


def make_network() -> nn.Module:
    """Return a small network from images (B, 3, H, W) to logits (B, CLASSES, H, W).

    It uses group norm. Batch norm differs between training and evaluation, labelled and mixed images, student and
    teacher; to use it well takes more care than fits here.
    """

    def block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
        return nn.Sequential(convolution, nn.GroupNorm(4, outputs), nn.ReLU())

    blocks = [block(3, 16, stride=2), block(16, 32, stride=2), *(block(32, 32, dilation=d) for d in (1, 2, 4, 1))]
    return nn.Sequential(*blocks, nn.Conv2d(32, CLASSES, 1), nn.Upsample(scale_factor=4, mode="bilinear"))


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module) -> None:
    """Move the teacher's weights towards the student's."""
    for old, new in zip(teacher.state_dict().values(), student.state_dict().values(), strict=True):
        old.copy_(old.lerp(new, 1 - EMA) if old.is_floating_point() else new)


@torch.no_grad()
def mean_iou(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the intersection over union, averaged over classes, in [0, 1]."""
    predicted = network.eval()(images).argmax(1)
    pairs = torch.bincount((labels * CLASSES + predicted).flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    return (pairs.diag() / (pairs.sum(0) + pairs.sum(1) - pairs.diag())).mean().item()


def train(consistency_weight: float, iterations: int = ITERATIONS, seed: int = 0) -> float:
    """Train student and teacher; return the teacher's mean IoU on test images."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    labelled, labels = draw_shapes(LABELLED, generator)
    unlabelled, _ = draw_shapes(256, generator)
    test = draw_shapes(64, generator)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    student = make_network().to(device)
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    cowmix = CowMix(sigma=SIGMA)

    for _ in range(iterations):
        student.train()
        chosen = torch.randint(len(labelled), (BATCH,))
        loss = F.cross_entropy(student(labelled[chosen].to(device)), labels[chosen].to(device))

        if consistency_weight > 0:
            x = unlabelled[torch.randint(len(unlabelled), (BATCH,))].to(device)
            with torch.no_grad():
                probs = teacher(x).softmax(1)
            x_mixed, probs_mixed = cowmix(x, probs)  # one mask for both; the partner is the batch rolled by one
            loss = loss + consistency_weight * consistency_loss(student(x_mixed), probs_mixed)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_teacher(teacher, student)

    return mean_iou(teacher, test[0].to(device), test[1].to(device))


if __name__ == "__main__":
    print(f"{LABELLED} labelled images, supervised:  mean IoU {100 * train(0.0):.1f} %")
    print(f"the same and 256 unlabelled, CowMix: mean IoU {100 * train(CONSISTENCY_WEIGHT):.1f} %")
