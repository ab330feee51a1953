"""Pictures of a run: the methods' predictions for a few images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from cowmask import CowMix
from segmentation.config import Config
from segmentation.data.datasets import VOID, Dataset, Split

_VOID_COLOUR = "white"  # no class of any palette has it


def evenly_spaced(n: int, rows: int = 4) -> list[int]:
    """Return a few indices below n, evenly spaced."""
    return sorted(set(torch.linspace(0, n - 1, rows + 2)[1:-1].round().long().tolist()))


def colour_labels(labels: Tensor, data: Dataset) -> np.ndarray:
    """Return a label map (H, W) as colours (H, W, 3) in [0, 1]."""
    table = np.zeros((256, 3))
    table[: len(data.classes)] = [to_rgb(colour) for colour in data.colours]
    table[VOID] = to_rgb(_VOID_COLOUR)
    return table[labels.numpy()]


def _rgb(image: Tensor) -> np.ndarray:
    """Return an image (3, H, W) or mask (1, H, W) as (H, W, 3) in [0, 1]."""
    return image.expand(3, -1, -1).permute(1, 2, 0).float().numpy()


def save_panel(path: Path, data: Dataset, predictions: Mapping[str, Mapping[int, Tensor]], config: Config) -> None:
    """Draw image, mixed image, mask, truth and each method's prediction for some test images.

    Args:
        path: PNG to write.
        data: Its test set has the images.
        predictions: By method, class maps (H, W) by index in the test set; all methods have the same indices.
        config: Size, sigma and seed of the masks. Images of other sizes are cut to their middle before mixing.
    """
    chosen = sorted(next(iter(predictions.values())))  # several processes return theirs one after the other
    images = [data.test.image(i).float() / 255 for i in chosen]
    mixed = {}
    if len(images) > 1:
        middles = torch.stack([center_crop(image, list(config.size)) for image in images])
        cowmix = CowMix(sigma=config.mask_sigma)
        mask = cowmix.sample(middles, torch.Generator().manual_seed(config.seed))
        mixed["mixed image"] = [_rgb(image) for image in cowmix(middles, mask=mask)]
        mixed["cow mask"] = [_rgb(one) for one in mask]
    in_order = {name: {i: maps[i] for i in chosen} for name, maps in predictions.items()}
    save_predictions(path, data, in_order, mixed)


def save_predictions(
    path: Path,
    data: Dataset,
    predictions: Mapping[str, Mapping[int, Tensor]],
    more: Mapping[str, Sequence[np.ndarray]],
    notes: Mapping[int, str] | None = None,
) -> None:
    """Draw image, truth and predictions for some test images, a row for each.

    Args:
        path: PNG to write.
        data: Its test set has the images.
        predictions: By title, class maps (H, W) by index in the test set, in the order of the rows; all titles have the
            same indices.
        more: By title, pictures (H, W, 3) in [0, 1] for columns beside the images, in the order of the rows.
        notes: What is written left of some rows, by index.
    """
    chosen = list(next(iter(predictions.values())))
    images, truth = [data.test.image(i).float() / 255 for i in chosen], [data.test.label(i) for i in chosen]
    columns = {"image": [_rgb(image) for image in images], **more}
    columns["truth"] = [colour_labels(label, data) for label in truth]
    columns |= {name: [colour_labels(maps[i], data) for i in chosen] for name, maps in predictions.items()}

    ratios = [image.shape[1] / image.shape[2] for image in images]
    handles = [Patch(color=colour, label=name) for name, colour in zip(data.classes, data.colours, strict=True)]
    if any((label == VOID).any() for label in truth):
        handles.append(Patch(facecolor=_VOID_COLOUR, edgecolor="grey", label="void"))
    per_line = int(2.2 * len(columns) / 1.3)  # a column is 2.2 inches wide, a legend entry 1.3
    lines = -(-len(handles) // per_line)
    figure, axes = plt.subplots(
        len(images),
        len(columns),
        figsize=(2.2 * len(columns), 2.2 * sum(ratios) + 0.4 + 0.3 * lines),
        squeeze=False,
        layout="constrained",
        height_ratios=ratios,
    )
    for column, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title)
        for axis, picture in zip(column, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, index in zip(axes[:, 0], chosen, strict=True):
        axis.set_ylabel((notes or {}).get(index, ""))
    figure.legend(handles=handles, loc="outside lower center", ncols=per_line, frameon=False)
    figure.savefig(path, dpi=140)  # pictures of 300 pixels
    plt.close(figure)


def comparison_strips(
    data: Dataset, split: Split, predictions: Mapping[int, Tensor], size: tuple[int, int]
) -> np.ndarray:
    """Return one picture (1, rows * H, 3 * W, 3) in [0, 1]: middles of images, truths and predictions side by side."""
    rows = []
    for index, prediction in sorted(predictions.items()):
        maps = [torch.from_numpy(colour_labels(one, data)).movedim(-1, 0) for one in (split.label(index), prediction)]
        pictures = [split.image(index) / 255, *maps]
        rows.append(np.concatenate([_rgb(center_crop(picture, list(size))) for picture in pictures], axis=1))
    return np.concatenate(rows)[None]
