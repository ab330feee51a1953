"""The panel: what the methods see in a few test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from torch import Tensor

from cowmask import CowMix
from segmentation.datasets import VOID, Dataset, Split

# A colour per class name, as CamVid's and Cityscapes' own where they have one.
_COLOURS = {
    "sky": "#8fc7ea",
    "building": "#9a5b4f",
    "pole": "#c9c9a0",
    "road": "#80508c",
    "pavement": "#e79ad0",
    "tree": "#5f9636",
    "sign": "#e6c229",
    "fence": "#6a6fb3",
    "car": "#1f3fa8",
    "pedestrian": "#dc143c",
    "person": "#dc143c",
    "bicyclist": "#17b3b3",
}


def colour_labels(labels: Tensor, classes: Sequence[str]) -> np.ndarray:
    """Return the label map (H, W) as colours (H, W, 3) in [0, 1]; void is black."""
    table = np.zeros((256, 3))
    table[: len(classes)] = [to_rgb(_COLOURS[name]) for name in classes]
    table[VOID] = 0
    return table[labels.numpy()]


def save_panel(
    path: Path, data: Dataset, predictions: Mapping[str, Tensor], sigma: tuple[float, float], seed: int, rows: int = 4
) -> None:
    """Draw image, mixed image, mask, truth and each method's prediction for test images spread over the set.

    Args:
        path: PNG to write.
        data: Where the images come from.
        predictions: Method name to class maps (N, H, W) of the test set.
        sigma: Of the cow masks, pixels.
        seed: Of the masks.
        rows: Images to show.
    """
    images = data.test.images
    chosen = torch.linspace(0, len(images) - 1, rows + 2)[1:-1].round().long().tolist()
    truth = data.test.labels(chosen)
    shown = images[chosen].float() / 255
    cowmix = CowMix(sigma=sigma)
    mask = cowmix.sample(shown, torch.Generator().manual_seed(seed))
    mixed = cowmix(shown, mask=mask)
    columns = {
        "image": list(shown.permute(0, 2, 3, 1).numpy()),
        "mixed image": list(mixed.permute(0, 2, 3, 1).numpy()),
        "cow mask": [np.repeat(one[0].numpy()[..., None].astype(float), 3, axis=2) for one in mask],
        "truth": [colour_labels(one, data.classes) for one in truth],
    } | {name: [colour_labels(maps[i], data.classes) for i in chosen] for name, maps in predictions.items()}

    height, width = images.shape[-2:]
    per_line = int(2.2 * len(columns) / 1.3)  # inches of the figure, and of an entry of the legend
    lines = -(-len(data.classes) // per_line)
    figure, axes = plt.subplots(
        rows,
        len(columns),
        figsize=(2.2 * len(columns), 2.2 * rows * height / width + 0.4 + 0.3 * lines),
        squeeze=False,
        layout="constrained",
    )
    for column, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title)
        for axis, picture in zip(column, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.axis("off")
    handles = [Patch(color=_COLOURS[name], label=name) for name in data.classes]
    figure.legend(handles=handles, loc="outside lower center", ncols=per_line, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def strips(split: Split, predictions: Tensor, classes: Sequence[str], rows: int = 4) -> np.ndarray:
    """Return one picture, (1, rows * H, 3 * W, 3) in [0, 1]: image, truth and prediction of some of the images."""
    chosen = torch.linspace(0, len(predictions) - 1, rows).round().long().tolist()
    images = split.images[chosen].permute(0, 2, 3, 1).numpy() / 255
    truth, seen = (
        np.stack([colour_labels(one, classes) for one in maps]) for maps in (split.labels(chosen), predictions[chosen])
    )
    return np.concatenate(np.concatenate([images, truth, seen], axis=2))[None]
