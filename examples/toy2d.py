"""The paper's Figure 2: consistency regularisation of points in the plane, with and without a gap between the classes.

    pip install ".[examples]"
    python examples/toy2d.py
    python examples/toy2d.py --help

Where unlabelled points lie everywhere, small random moves teach nothing about the class boundary. Moves along the
boundary do (section 3.2, appendix A). The script writes toy2d.png and toy2d.json.

Network, mean teacher, loss, weight, threshold, perturbations and tolerance are the paper's. Ours are the boundary (the
paper's is drawn by hand), the number of unlabelled points, batch, learning rate, EMA and iterations. We scale the loss
by the share of points above the threshold, as the paper does for segmentation; for points it drops those below
(--per-sample). The authors' code takes each pixel of the square, batches of 512, a learning rate of 2e-4, an EMA of
0.99 and 51,200 iterations. Its panel (a) adds batch-norm, dropout and a squared difference as the loss, its panel (d) a
squared difference of logits with weight 1.
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
SIZE = 512  # pixels along the square's side
GRID = 128  # points along the side where networks are evaluated
ISOTROPIC_STD, CONSTRAINED_STD = 6.0, 30.0  # pixels: standard deviations of the perturbations
TOLERANCE = 4.0  # pixels: largest change of the distance to the boundary
CANDIDATES = 16  # drawn for each constrained perturbation; a tenth are within the tolerance


@dataclass(frozen=True)
class Options:
    """Options of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of points and initial weights; the figure shows the first."""
    iterations: int = 5000
    """Iterations of each training."""
    labelled: int = 10
    """Labelled points, half of each class, the same in all panels."""
    unlabelled: int = 5000
    """Unlabelled points."""
    gap: float = 35.0
    """Least distance of labelled points to the boundary, in pixels; in panel (a) also of unlabelled points."""
    batch: int = 32
    """Unlabelled points in each iteration, beside all labelled points."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    ema: float = 0.9
    """Share of its weights that the teacher keeps each iteration."""
    consistency_weight: float = 10.0
    """Weight of the consistency loss."""
    threshold: float = 0.97
    """Probability above which the teacher is confident."""
    per_sample: bool = False
    """Drop points below the threshold, instead of scaling the loss by the share above."""
    workers: int = os.cpu_count() or 1
    """Trainings at the same time, one core each."""
    out: Path = Path("runs/toy2d")
    """Folder for toy2d.png and toy2d.json."""


class OptionsError(Exception):
    """An option cannot be used; the message is for the user."""


class Outcome(NamedTuple):
    """Accuracies of one training in percent, and the contents of its panel."""

    overall: float
    away: float  # accuracy at least options.gap pixels from the boundary
    probs: Tensor  # (GRID, GRID), of class 1
    points: Tensor  # (labelled, 2)
    labels: Tensor  # (labelled,)
    unlabelled: Tensor  # (unlabelled, 2)


def cell_centres(n: int) -> Tensor:
    """Return the centres (x, y) of n x n cells of the square, row by row from y = -1: (n * n, 2)."""
    centres = (torch.arange(n) + 0.5) * 2 / n - 1
    return torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).reshape(-1, 2)


def class_map() -> NDArray[np.bool_]:
    """Return a map of class 1, (SIZE, SIZE): above a wave that winds round the centre."""
    x, y = cell_centres(SIZE).numpy().T
    turn = 2.4 * (1.2 - np.hypot(x, y))
    above = y * np.cos(turn) + x * np.sin(turn) > 0.1 * np.sin(4 * x)
    return above.reshape(SIZE, SIZE)


def signed_distance(classes: NDArray[np.bool_]) -> Tensor:
    """Return the distance to the boundary in pixels, positive in class 1: (H, W).

    The boundary is half a pixel before the centre of the nearest pixel of the other class. The sign, as in the authors'
    code, keeps a jump across the boundary from counting as a move along a contour.
    """
    distance = np.where(classes, distance_transform_edt(classes) - 0.5, 0.5 - distance_transform_edt(~classes))
    return torch.from_numpy(distance.astype(np.float32))


def distance_at(distances: Tensor, points: Tensor) -> Tensor:
    """Interpolate the distance map at points (N, 2), extended by its edge: (N,)."""
    sampled = F.grid_sample(distances[None, None], points[None, None], padding_mode="border", align_corners=False)
    return sampled[0, 0, 0]


def stays_on_contour(distances: Tensor, points: Tensor, moved: Tensor) -> Tensor:
    """Return whether moved points (N, 2) keep their distance to the boundary, within the tolerance: (N,) bool."""
    return (distance_at(distances, points) - distance_at(distances, moved)).abs() <= TOLERANCE


def draw_points(distances: Tensor, n: int, gap: float, generator: torch.Generator) -> Tensor:
    """Draw n uniform points at least `gap` pixels from the boundary: (n, 2)."""
    drawn = torch.empty(0, 2)
    while len(drawn) < n:
        points = 2 * torch.rand(n, 2, generator=generator) - 1
        drawn = torch.cat((drawn, points[distance_at(distances, points).abs() >= gap]))
    return drawn[:n]


def draw_labelled(distances: Tensor, n: int, gap: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n points (n, 2), half of each class; return them and their classes (n,)."""
    points = draw_points(distances, 100 * n, gap, generator)  # enough to hold n // 2 of each class
    label = distance_at(distances, points) > 0
    halves = (points[~label][: n - n // 2], points[label][: n // 2])
    return torch.cat(halves), torch.arange(2).repeat_interleave(torch.tensor([len(half) for half in halves]))


def make_network() -> nn.Sequential:
    """Return the paper's network, from points (N, 2) to logits (N, 2)."""
    hidden = [layer for inputs in (2, 512, 512) for layer in (nn.Linear(inputs, 512), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(512, 2))


def perturb(distances: Tensor, points: Tensor, method: Method, batch: int) -> tuple[Tensor, Tensor]:
    """Choose points (B, 2); return them, and the same points moved.

    Constrained perturbations that leave their contour are dropped, and the loss is the mean over the others, as in the
    authors' code. Appendix A sets the loss of the dropped ones to 0.
    """
    constrained = method == "constrained"
    chosen = points[torch.randint(len(points), (batch * (CANDIDATES if constrained else 1),))]
    moved = chosen + (CONSTRAINED_STD if constrained else ISOTROPIC_STD) * 2 / SIZE * torch.randn_like(chosen)
    if not constrained:
        return chosen, moved
    stays = stays_on_contour(distances, chosen, moved)
    return chosen[stays][:batch], moved[stays][:batch]


def accuracy(probs: Tensor, truth: Tensor) -> float:
    """Return the accuracy in percent of probabilities of class 1 (N,), given the classes (N,) bool."""
    return 100 * ((probs > 0.5) == truth).float().mean().item()


def train(options: Options, method: Method, seed: int) -> Outcome:
    """Train student and teacher; return the teacher's result."""
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

    where = cell_centres(GRID)
    distance = distance_at(distances, where)
    far = distance.abs() >= options.gap
    probs = teacher(where).softmax(1)[:, 1]
    scores = accuracy(probs, distance > 0), accuracy(probs[far], distance[far] > 0)
    return Outcome(*scores, probs.view(GRID, GRID), points, labels, unlabelled)


def summary(runs: Sequence[float]) -> dict[str, Any]:
    """Return the accuracies, their mean and their standard deviation (0 for one)."""
    std = statistics.stdev(runs) if len(runs) > 1 else 0.0
    return {"runs": list(runs), "mean": statistics.fmean(runs), "std": std}


def format_score(score: Mapping[str, Any]) -> str:
    """Format a summary as the paper does."""
    return f"{score['mean']:.1f} ± {score['std']:.1f}"


def draw_panel(axis: Axes, shown: Outcome) -> None:
    """Draw the decision function and the points."""
    axis.imshow(shown.probs.numpy(), cmap="Greens", vmin=0, vmax=1.6, origin="lower", extent=SQUARE)
    axis.plot(*shown.unlabelled.numpy().T, ".", color="black", markersize=1.4, markeredgewidth=0)
    for label, colour in enumerate(("blue", "red")):
        chosen = shown.points[shown.labels == label].numpy()
        axis.plot(*chosen.T, "o", color=colour, mfc="none", markersize=8, markeredgewidth=2, clip_on=False)


def plot(path: Path, options: Options, shown: Mapping[Method, Outcome], scores: Mapping[Method, Any]) -> None:
    """Draw the four panels for one seed, with the accuracies over all seeds."""
    distances = signed_distance(class_map()).numpy()
    figure, axes = plt.subplots(1, 4, figsize=(16, 5.2), layout="constrained")
    for axis, method in zip(axes[[0, 1, 3]], METHODS[1:], strict=True):
        draw_panel(axis, shown[method])
        axis.set_title(f"{TITLES[method]}\naccuracy {format_score(scores[method]['overall'])} %", fontsize=11)
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
    alone = format_score(scores["supervised"]["overall"])
    figure.suptitle(f"{runs} seeds; supervised alone: {alone} %\n", fontsize=11)  # and an empty line
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(options: Options) -> None:
    """Train all methods, and print and write the results."""
    far = signed_distance(class_map()) >= options.gap  # in class 1; class 0 is its mirror image
    if far.float().mean() < 0.01:
        raise OptionsError(f"--gap {options.gap:g} leaves each class less than 1 % of the square: take a smaller one.")
    options.out.mkdir(parents=True, exist_ok=True)
    # Spawned, since PyTorch's threads do not survive a fork. The short trainings come last.
    with ProcessPoolExecutor(options.workers, get_context("spawn"), _prepare_worker) as pool:
        futures = {job: pool.submit(train, options, *job) for job in product(METHODS[::-1], options.seeds)}
        outcomes = {job: future.result() for job, future in futures.items()}
    fields = ("overall", "away")
    scores = {m: {f: summary([getattr(outcomes[m, s], f) for s in options.seeds]) for f in fields} for m in METHODS}
    used = {name: value for name, value in asdict(options).items() if name != "out"}
    content = {"command": shlex.join(sys.argv), "torch": torch.__version__, "options": used, "accuracy": scores}
    (options.out / "toy2d.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    plot(options.out / "toy2d.png", options, {m: outcomes[m, options.seeds[0]] for m in METHODS}, scores)
    print(f"Accuracy in %, mean ± std of {len(options.seeds)} seeds: everywhere, {options.gap:g} px from the boundary")
    for method, score in scores.items():
        print(f"{TITLES[method]:36}{format_score(score['overall']):>14}{format_score(score['away']):>14}")
    print(f"Written: toy2d.png and toy2d.json in {options.out}.")


def _prepare_worker() -> None:
    torch.set_num_threads(1)  # more threads gain little on products this small
    torch.set_flush_denormal(True)  # denormal numbers in weights that hardly move are slow


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except OptionsError as error:
        sys.exit(f"toy2d: {error}")
