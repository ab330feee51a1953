"""Predict the label maps of new images by a network that a trainer left behind.

pip install ".[examples]"
python examples/predict.py runs/street/cowmix photos --out predictions

RUN is the folder of a method in a finished run, or the file network.safetensors in it. IMAGES are files, or folders of
images, with all folders in them. For each image NAME the script writes, in the size of the upright image:

labels/NAME.png       the class of each pixel, with the classes' colours as a palette
overlays/NAME.jpg     the image under these colours
confidence/NAME.png   the probability of that class, from black (0) to white (1)

The script also writes classes.csv: index, name, colour and share of the predicted pixels of each class.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageColor
from torch import Tensor
from tqdm import tqdm

from segmentation.data.datasets import DataError
from segmentation.data.decoding import as_tensor, read_picture
from segmentation.data.files import pictures_in, read_file
from segmentation.evaluation import segment
from segmentation.networks import NetworkError
from segmentation.saved import Trained, load_network

COVER = 0.5  # opacity of the colours over an image


@dataclass(frozen=True)
class Options:
    """Options of predict.py."""

    run: tyro.conf.Positional[Path]
    """Folder of a trained method, or its network.safetensors."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Images, or folders of images."""
    out: Path = Path("predictions")
    """Folder to write to; predictions of the same names are replaced."""
    window: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """For large images: do not resize them as in training, and take the mean probability over windows of this size that
    overlap by a third."""
    batch_size: int = 8
    """Images at once, as far as they have one size."""
    device: str = "auto"
    """Such as cpu, cuda or mps; auto takes an accelerator if there is one."""


class Picture(NamedTuple):
    """An image to predict."""

    name: str
    upright: Image.Image
    image: Tensor  # (3, H, W) uint8, as the network takes it


class Prediction(NamedTuple):
    """What is predicted for an image, in its own size."""

    labels: NDArray[np.uint8]  # (H, W)
    confidence: NDArray[np.uint8]  # (H, W), 255 for probability 1


def main(options: Options) -> list[str]:
    """Predict all images that can be read; return what is wrong with the others."""
    if options.batch_size < 1 or (options.window and min(options.window) < 32):
        raise DataError("--batch-size must be at least 1, and --window two lengths of at least 32 pixels.")
    trained, found = load_network(options.run), find(options.images)
    automatic = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    device = automatic if options.device == "auto" else options.device
    trained.network.to(device)
    pixels = np.zeros(len(trained.classes), dtype=np.int64)
    problems: list[str] = []
    size = None if options.window else trained.size
    with tqdm(total=len(found), desc="Predicting", unit="image", disable=None) as bar:
        pictures = read(found, size, problems)
        for batch in in_batches(pictures, options.batch_size):
            for picture, prediction in zip(batch, predict(trained, batch, options.window), strict=True):
                write(options.out, picture, prediction, trained)
                pixels += np.bincount(prediction.labels.ravel(), minlength=len(pixels))
            bar.update(len(batch))
    write_classes(options.out, trained, pixels)
    return problems


def find(places: Iterable[Path]) -> dict[str, Path]:
    """Return images by their names: of a file its own, of those in a folder the paths from that folder on."""
    found: dict[str, Path] = {}
    for place in places:
        pictures = pictures_in(place, nested=True) if place.is_dir() else {place.stem: place}
        if not pictures:
            raise DataError(f"{place} holds no images.")
        for name in found.keys() & pictures.keys():
            raise DataError(
                f"{found[name]} and {pictures[name]} would both be predicted as {name}: predict one by one."
            )
        found |= pictures
    return found


def read(found: dict[str, Path], size: tuple[int, int] | None, problems: list[str]) -> Iterator[Picture]:
    """Read images, resized to (height, width) if given; note what cannot be read."""
    for name, path in found.items():
        try:
            upright = read_picture(read_file(path))
        except DataError as error:
            problems.append(str(error))
        else:
            yield Picture(name, upright, as_tensor(upright, size))


def in_batches(pictures: Iterator[Picture], at_most: int) -> Iterator[list[Picture]]:
    """Yield batches of consecutive pictures of one size."""
    while some := list(islice(pictures, at_most)):
        for _, alike in groupby(some, key=lambda picture: picture.image.shape):
            yield list(alike)


@torch.no_grad()
def predict(trained: Trained, pictures: list[Picture], window: tuple[int, int] | None) -> Iterator[Prediction]:
    """Yield a prediction for each picture; all have one size as the network takes them."""
    images = torch.stack([picture.image for picture in pictures]).to(trained.network.mean.device) / 255
    for picture, scores in zip(pictures, segment(trained.network, images, window), strict=True):
        own = F.interpolate(scores[None], picture.upright.size[::-1], mode="bilinear")[0]  # (K, H, W)
        probabilities = own if window else own.softmax(0)
        highest, labels = probabilities.max(0)
        confidence = (255 * highest).round().clamp(max=255)
        yield Prediction(labels.to("cpu", torch.uint8).numpy(), confidence.to("cpu", torch.uint8).numpy())


def write(out: Path, picture: Picture, prediction: Prediction, trained: Trained) -> None:
    """Write an image's label map, overlay and confidence."""
    labels = Image.fromarray(prediction.labels)
    labels.putpalette([value for colour in trained.colours for value in ImageColor.getrgb(colour)])
    pictures = {
        f"labels/{picture.name}.png": labels,
        f"overlays/{picture.name}.jpg": Image.blend(picture.upright, labels.convert("RGB"), COVER),
        f"confidence/{picture.name}.png": Image.fromarray(prediction.confidence),
    }
    for name, image in pictures.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90, subsampling=0)  # of JPEGs; subsampled colours would bleed


def write_classes(out: Path, trained: Trained, pixels: NDArray[np.int64]) -> None:
    """Write what the indices in the label maps mean."""
    out.mkdir(parents=True, exist_ok=True)
    shares = pixels / np.maximum(1, pixels.sum())
    with (out / "classes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "class", "colour", "share"])
        for index, (name, colour, share) in enumerate(zip(trained.classes, trained.colours, shares, strict=True)):
            writer.writerow([index, name, colour, f"{share:.4f}"])


if __name__ == "__main__":
    given = tyro.cli(Options, description=__doc__)
    try:
        unread = main(given)
    except (DataError, NetworkError, OSError) as error:
        sys.exit(f"predict: {error}")
    print(f"Written: labels, overlays, confidence and classes.csv in {given.out}.")
    if unread:
        sys.exit("\n".join(["predict: some images cannot be read:", *unread]))
