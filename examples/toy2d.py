"""The paper's Figure 2: consistency regularisation of points in the plane, with and without a gap between the classes.

    python examples/toy2d.py
    python examples/toy2d.py --help

Where unlabelled points lie everywhere, moving them a little in any direction teaches nothing of the class boundary.
Moving them along it, at one distance from it, does (section 3.2, appendix A).

Network, mean teacher, loss, weight, threshold, perturbations and tolerance are the paper's. Our own are the boundary,
as theirs is drawn by hand; that the loss is scaled by the share of samples above the threshold, as the paper does for
segmentation, where for points it leaves out those below (--per-sample); the number of unlabelled points; and batch,
learning rate, EMA and length. The authors' code takes each pixel of the square, 512, 2e-4, 0.99 and 51,200 iterations;
in (a) also batch-norm, dropout and a squared difference for the loss, in (d) one of logits with weight 1.
"""

import copy
import json
import os
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from cowmask import consistency_loss

Method = Literal["supervised", "gap", "isotropic", "constrained"]
METHODS: tuple[Method, ...] = get_args(Method)
TITLES: dict[Method, str] = {
    "supervised": "Supervised alone",
    "gap": "(a) Gap between classes, isotropic",
    "isotropic": "(b) No gap, isotropic",
    "constrained": "(d) No gap, along the contours",
}
SQUARE = (-1, 1, -1, 1)
SIZE = 512  # pixels along the square's side, which reaches from -1 to 1
GRID = 128  # points along the side where networks are evaluated
SMALL, LARGE = 6.0, 30.0  # pixels: standard deviation of a perturbation, isotropic and constrained
TOLERANCE = 4.0  # pixels that a constrained perturbation may change the distance to the boundary
CANDIDATES = 16  # drawn for each constrained perturbation wanted, of which the tolerance leaves about a tenth


@dataclass(frozen=True)
class Options:
    """Options of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each draws its own points and initial weights; the figure shows the first."""
    iterations: int = 5000
    """Of each training."""
    labelled: int = 10
    """Points with labels, half of each class, the same in all panels."""
    unlabelled: int = 5000
    """Points without."""
    gap: float = 35.0
    """Pixels from the boundary that labelled points keep, and in panel (a) the unlabelled ones."""
    batch: int = 32
    """Unlabelled points that enter the loss at each iteration, with all labelled ones."""
    learning_rate: float = 1e-3
    """Of Adam."""
    ema: float = 0.9
    """What the teacher keeps of its weights at each iteration."""
    consistency_weight: float = 10.0
    """Of the consistency loss."""
    threshold: float = 0.97
    """Of the teacher's confidence."""
    per_sample: bool = False
    """Drop each sample below the threshold, instead of scaling the loss by the share above it."""
    workers: int = os.cpu_count() or 1
    """Trainings at once, one core each."""
    out: Path = Path("runs/toy2d")
    """Folder for toy2d.png and toy2d.json."""


class OptionsError(Exception):
    """An option cannot be used; the message is for the user."""


class Outcome(NamedTuple):
    """What one training gave: accuracies in percent, and what a panel shows."""

    overall: float
    away: float  # at least options.gap from the boundary
    probs: Tensor  # (GRID, GRID), of class 1
    points: Tensor  # (labelled, 2)
    labels: Tensor  # (labelled,)
    unlabelled: Tensor  # (unlabelled, 2)


def grid(n: int) -> Tensor:
    """Return the centres, x first, of n x n cells of the square, row by row from y = -1, (n * n, 2)."""
    centres = (torch.arange(n) + 0.5) * 2 / n - 1
    return torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).reshape(-1, 2)


def class_map() -> NDArray[np.bool_]:
    """Return where class 1 is, (SIZE, SIZE): above a wave that winds up around the middle."""
    x, y = grid(SIZE).numpy().T
    turn = 2.4 * (1.2 - np.hypot(x, y))
    above = y * np.cos(turn) + x * np.sin(turn) > 0.1 * np.sin(4 * x)
    return above.reshape(SIZE, SIZE)


def signed_distance(classes: NDArray[np.bool_]) -> Tensor:
    """Return the distance to the boundary in pixels, above 0 in class 1, (H, W).

    The boundary runs between pixels, half a pixel before the centre of the nearest one of the other class.

    It is signed, as in the authors' code: unsigned, a jump across the boundary to the same distance on the other side
    would count as one along a contour. Signed, only points within the tolerance can cross.
    """
    distance = np.where(classes, distance_transform_edt(classes) - 0.5, 0.5 - distance_transform_edt(~classes))
    return torch.from_numpy(distance.astype(np.float32))


def distance_at(distances: Tensor, points: Tensor) -> Tensor:
    """Return the distance map's value at points (N, 2), interpolated; outside the square, its edge's, (N,)."""
    sampled = F.grid_sample(distances[None, None], points[None, None], padding_mode="border", align_corners=False)
    return sampled[0, 0, 0]


def along_contour(distances: Tensor, points: Tensor, moved: Tensor) -> Tensor:
    """Return which points (N, 2), when moved, keep their distance to the boundary within the tolerance, (N,)."""
    return (distance_at(distances, points) - distance_at(distances, moved)).abs() <= TOLERANCE


def draw_points(distances: Tensor, n: int, gap: float, generator: torch.Generator) -> Tensor:
    """Return n uniform points at least `gap` pixels from the boundary, (n, 2)."""
    drawn = torch.empty(0, 2)
    while len(drawn) < n:
        points = 2 * torch.rand(n, 2, generator=generator) - 1
        drawn = torch.cat((drawn, points[distance_at(distances, points).abs() >= gap]))
    return drawn[:n]


def draw_labelled(distances: Tensor, n: int, gap: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return n points (n, 2), half of each class, and their classes (n,)."""
    points = draw_points(distances, 100 * n, gap, generator)  # enough to hold n // 2 of either class
    label = distance_at(distances, points) > 0
    halves = (points[~label][: n - n // 2], points[label][: n // 2])
    return torch.cat(halves), torch.arange(2).repeat_interleave(torch.tensor([len(half) for half in halves]))


def make_network() -> nn.Sequential:
    """Return the paper's network, from points (N, 2) to logits (N, 2)."""
    hidden = [layer for inputs in (2, 512, 512) for layer in (nn.Linear(inputs, 512), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(512, 2))


def perturb(distances: Tensor, points: Tensor, method: Method, batch: int) -> tuple[Tensor, Tensor]:
    """Return some of the points (B, 2), and the same points moved.

    A constrained perturbation that leaves its contour is discarded, as in appendix A. There its loss is masked to 0;
    here the networks do not see it, and the mean is over those that stay, as in the authors' code.
    """
    constrained = method == "constrained"
    chosen = points[torch.randint(len(points), (batch * (CANDIDATES if constrained else 1),))]
    moved = chosen + (LARGE if constrained else SMALL) * 2 / SIZE * torch.randn_like(chosen)
    if not constrained:
        return chosen, moved
    stays = along_contour(distances, chosen, moved)
    return chosen[stays][:batch], moved[stays][:batch]


def accuracy(probs: Tensor, truth: Tensor) -> float:
    """Return in percent how often the probability of class 1 (N,) and the class (N,), bool, agree."""
    return 100 * ((probs > 0.5) == truth).float().mean().item()


def train(options: Options, method: Method, seed: int) -> Outcome:
    """Train student and teacher; return what the teacher knows."""
    distances = signed_distance(class_map())
    generator = torch.Generator().manual_seed(seed)
    points, labels = draw_labelled(distances, options.labelled, options.gap, generator)
    unlabelled = draw_points(distances, options.unlabelled, options.gap if method == "gap" else 0, generator)
    torch.manual_seed(seed)
    student = make_network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), options.learning_rate, fused=True)

    for _ in range(options.iterations):
        if method == "supervised":
            loss = F.cross_entropy(student(points), labels)
        else:
            original, moved = perturb(distances, unlabelled, method, options.batch)
            logits, moved_logits = student(torch.cat((points, moved))).split((len(points), len(moved)))
            consistency = consistency_loss(
                moved_logits,
                teacher(original).softmax(1),
                threshold=options.threshold,
                per_pixel=options.per_sample,
                distance="bce",
            )
            loss = F.cross_entropy(logits, labels) + options.consistency_weight * consistency
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.lerp_(new, 1 - options.ema)

    where = grid(GRID)
    distance = distance_at(distances, where)
    far = distance.abs() >= options.gap
    probs = teacher(where).softmax(1)[:, 1]
    scores = accuracy(probs, distance > 0), accuracy(probs[far], distance[far] > 0)
    return Outcome(*scores, probs.view(GRID, GRID), points, labels, unlabelled)


def summary(runs: Sequence[float]) -> dict[str, Any]:
    """Return the accuracies, their mean and their standard deviation (0 if there is only one)."""
    std = statistics.stdev(runs) if len(runs) > 1 else 0.0
    return {"runs": list(runs), "mean": statistics.fmean(runs), "std": std}


def text(score: Mapping[str, Any]) -> str:
    """Return a summary as the paper writes it."""
    return f"{score['mean']:.1f} ± {score['std']:.1f}"


def draw_panel(axis: Axes, shown: Outcome) -> None:
    """Draw the decision function and the points."""
    axis.imshow(shown.probs.numpy(), cmap="Greens", vmin=0, vmax=1.6, origin="lower", extent=SQUARE)
    axis.plot(*shown.unlabelled.numpy().T, ".", color="black", markersize=1.4, markeredgewidth=0)
    for label, colour in enumerate(("blue", "red")):
        chosen = shown.points[shown.labels == label].numpy()
        axis.plot(*chosen.T, "o", color=colour, mfc="none", markersize=8, markeredgewidth=2, clip_on=False)


def plot(path: Path, options: Options, shown: Mapping[Method, Outcome], scores: Mapping[Method, Any]) -> None:
    """Draw the four panels for one seed, with the accuracies of all."""
    distances = signed_distance(class_map()).numpy()
    figure, axes = plt.subplots(1, 4, figsize=(16, 5.2), layout="constrained")
    for axis, method in zip(axes[[0, 1, 3]], METHODS[1:], strict=True):
        draw_panel(axis, shown[method])
        axis.set_title(f"{TITLES[method]}\naccuracy {text(scores[method]['overall'])} %", fontsize=11)
    contour = partial(Axes.contour, origin="lower", extent=SQUARE)
    contour(axes[0], shown["supervised"].probs.numpy(), [0.5], colors="darkorange", linestyles="dotted", linewidths=2.5)
    reach = 20 * round(np.abs(distances).max() / 20)
    axes[2].imshow(np.abs(distances), cmap="gray", origin="lower", extent=SQUARE)
    levels = [level for level in range(20 - reach, reach, 20) if level]
    contour(axes[2], distances, levels, colors="gold", linestyles="solid", linewidths=0.7)
    for axis in axes:
        contour(axis, distances, [0], colors="magenta", linewidths=1.6)
        axis.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(), yticks=())
    axes[2].set_title("(c) Distance to the boundary\ncontours every 20 pixels", fontsize=11)
    line, point = partial(Line2D, [], []), partial(Line2D, [], [], linestyle="", markerfacecolor="none")
    handles = [
        line(color="magenta", label="true boundary"),
        line(color="darkorange", linestyle="dotted", linewidth=2.5, label="boundary of supervised alone"),
        line(color="gold", label="contour"),
        point(marker="o", color="blue", label="labelled, class 0"),
        point(marker="o", color="red", label="labelled, class 1"),
        point(marker=".", color="black", markersize=3, label="unlabelled"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    runs = f"points and decision functions of seed {options.seeds[0]}; accuracies: mean ± std of {len(options.seeds)}"
    alone = text(scores["supervised"]["overall"])
    figure.suptitle(f"{runs} seeds; supervised alone: {alone} %\n", fontsize=11)  # and a line's distance
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(options: Options) -> None:
    """Train everything, print the accuracies, and write figure and numbers."""
    far = signed_distance(class_map()) >= options.gap  # in class 1, of which the other is the mirror image
    if far.float().mean() < 0.01:
        raise OptionsError(f"--gap {options.gap:g} leaves each class less than 1 % of the square: take a smaller one.")
    options.out.mkdir(parents=True, exist_ok=True)
    # Spawned, as PyTorch's threads do not survive a fork; the short trainings last.
    with ProcessPoolExecutor(options.workers, get_context("spawn"), _prepare_worker) as pool:
        futures = {job: pool.submit(train, options, *job) for job in product(METHODS[::-1], options.seeds)}
        outcomes = {job: future.result() for job, future in futures.items()}
    fields = ("overall", "away")
    scores = {m: {f: summary([getattr(outcomes[m, s], f) for s in options.seeds]) for f in fields} for m in METHODS}
    used = {name: value for name, value in asdict(options).items() if name != "out"}
    content = {"command": shlex.join(sys.argv), "torch": torch.__version__, "options": used, "accuracy": scores}
    (options.out / "toy2d.json").write_text(json.dumps(content, indent=2) + "\n")
    plot(options.out / "toy2d.png", options, {m: outcomes[m, options.seeds[0]] for m in METHODS}, scores)
    print(f"Accuracy in %, mean ± std of {len(options.seeds)} seeds: everywhere, {options.gap:g} px from the boundary")
    for method, score in scores.items():
        print(f"{TITLES[method]:36}{text(score['overall']):>14}{text(score['away']):>14}")
    print(f"Written: toy2d.png and toy2d.json in {options.out}.")


def _prepare_worker() -> None:
    torch.set_num_threads(1)  # such small products gain little from more
    torch.set_flush_denormal(True)  # which would slow the weights that hardly move


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except OptionsError as error:
        sys.exit(f"toy2d: {error}")
