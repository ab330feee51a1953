"""Training steps on torch alone: a plain U-Net, student and teacher, CowMix."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import record_function

from benchmarks.profiling import peak_memory, share_of_masks
from benchmarks.timing import Candidate, Plan, Result, attempt, measure
from cowmask import CowMix, MeanTeacher, consistency_loss


@dataclass(frozen=True)
class Setting:
    """What is trained."""

    size: tuple[int, int]
    batch: int
    channels: int
    """Of the first stage; each of the four others doubles them."""
    classes: int = 11


CARD, SMOKE = Setting((480, 360), 8, 64), Setting((32, 48), 2, 4)


class UNet(nn.Module):
    """Ronneberger et al. 2015, with batch norm and padded borders."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = [channels * 2**stage for stage in range(5)]
        self.down = nn.ModuleList(_stage(before, width) for before, width in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(_stage(3 * width, width) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of images (B, 3, H, W)."""
        skipped: list[Tensor] = []
        for stage in self.down:
            x = stage(F.max_pool2d(x, 2) if skipped else x)
            skipped.append(x)
        for stage, skip in zip(self.up, reversed(skipped[:-1]), strict=True):
            x = stage(torch.cat((F.interpolate(x, skip.shape[2:], mode="bilinear"), skip), 1))
        logits: Tensor = self.head(x)
        return logits


def _stage(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Training:
    """A training on random images; `mixes` adds consistency under CowMix to supervised learning."""

    def __init__(self, setting: Setting, device: torch.device, *, mixes: bool) -> None:
        self.device, self.mixes, shape = device, mixes, (setting.batch, 3, *setting.size)
        self.images, self.unlabelled = torch.randn(2, *shape, device=device)
        self.labels = torch.randint(setting.classes, (setting.batch, *setting.size), device=device)
        self.student = UNet(setting.channels, setting.classes).to(device)
        self.teacher, self.cowmix = MeanTeacher(self.student), CowMix()
        self.optimizer = torch.optim.Adam(self.student.parameters(), 1e-4)

    def step(self) -> None:
        """Make one step, in bfloat16."""
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self._loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.teacher.update(self.student)

    def _loss(self) -> Tensor:
        if not self.mixes:
            return F.cross_entropy(self.student(self.images), self.labels)
        probs = self.teacher(self.unlabelled).softmax(1)
        with record_function("cowmask"):
            mixed, mixed_probs = self.cowmix(self.unlabelled, probs)
        logits, logits_mixed = self.student(torch.cat((self.images, mixed))).chunk(2)
        return F.cross_entropy(logits, self.labels) + 10 * consistency_loss(logits_mixed, mixed_probs)


def compare(setting: Setting, device: torch.device, plan: Plan) -> tuple[dict[str, Result], float | str, int]:
    """Time steps of supervised training and of CowMix; return as `training.compare` does."""
    trainings = {name: Training(setting, device, mixes=name == "cowmix") for name in ("supervised", "cowmix")}
    no_graph = "a step is not captured"
    results = measure({name: Candidate(one.step, no_graph) for name, one in trainings.items()}, device, plan)
    share = attempt(lambda: share_of_masks(trainings["cowmix"].step, device, plan.rounds))
    return results, share, peak_memory(device)
