"""Draw the pictures of the site: those that the gallery names, of how it works, and of the start page.

    pip install ".[docs]"
    python docs/gallery.py FOLDER

The photographs come with scikit-image and are free to use: the astronaut is in the public domain, the cat and the
coffee are CC0.

README shows a copy of strip.webp, docs/images/strip.webp, since a page outside of the site finds no built pictures.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from scipy import fft, ndimage
from skimage import data
from torch import Tensor

import cowmask
from cowmask import CowMix, cow_masks

SIDE = 240  # of a photograph, pixels
GAP = 8  # between tiles, pixels
SEED = 33
EDGE = "#808080"  # of a tile: a white one has to show on white paper, a black one on black
PAGE = Path(__file__).with_name("gallery.md")
CARD = re.compile(r":img-top: _build/pictures/(?P<name>\S+)\.webp\n.*?^`(?P<call>.+?)`", re.DOTALL | re.MULTILINE)

# What is seen in two of the photographs, painted by hand: grounds and classes as colours, shapes as x and y in pixels.
CAT = (
    ("#c9bfb0", "rectangle", (0, 0, SIDE, SIDE)),
    ("#b58863", "polygon", (0, 0, 196, 0, 216, 40, 226, 100, 214, 150, 196, 185, 170, 212, 140, 222, 60, 205, 0, 185)),
    ("#9fb84a", "ellipse", (49, 69, 104, 117)),
    ("#9fb84a", "ellipse", (178, 87, 214, 132)),
    ("#d1495b", "polygon", (127, 187, 150, 180, 172, 182, 166, 196, 146, 214)),
)
COFFEE = (
    ("#6f4e37", "rectangle", (0, 0, SIDE, SIDE)),
    ("#a4243b", "ellipse", (-6, 40, 227, 234)),
    ("#3d5a80", "polygon", (45, 75, 186, 60, 178, 120, 152, 160, 120, 172, 92, 168, 62, 140)),
    ("#3d5a80", "polygon", (70, 138, 58, 165, 62, 180, 75, 184, 90, 160, 92, 146)),
    ("#3d5a80", "ellipse", (43, 10, 186, 125)),
    ("#e9a03b", "ellipse", (66, 56, 162, 118)),
    ("#8d99ae", "polygon", (156, 145, 170, 122, 176, 70, 184, 40, 193, 42, 186, 70, 178, 122, 170, 146)),
    ("#8d99ae", "ellipse", (135, 147, 183, 195)),
)


class Card(NamedTuple):
    """A picture of the gallery."""

    name: str  # of the file, without its suffix
    call: str  # the transform that it shows, as "CowMix(p=0.5)"


def cards() -> list[Card]:
    """Return the pictures that the gallery's page names."""
    return [Card(found["name"], found["call"]) for found in CARD.finditer(PAGE.read_text())]


def transform_of(call: str) -> Any:
    """Return the transform that a call makes."""
    return eval(call, {"torch": torch, **{name: getattr(cowmask, name) for name in cowmask.__all__}})


def photographs() -> Tensor:
    """Return the middles of three photographs, (3, 3, SIDE, SIDE) uint8."""
    pictures = [ImageOps.fit(Image.fromarray(x), (SIDE, SIDE)) for x in (data.astronaut(), data.cat(), data.coffee())]
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).permute(0, 3, 1, 2)


def along_rows(transform: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a transform with `ndim=1` to images whose rows are the channels of a signal."""
    masks, changed = apply(transform, images.flatten(1, 2))
    return masks[..., None, :].expand(-1, -1, SIDE, -1), changed.unflatten(1, images.shape[1:3])


def over_time(transform: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a transform with `ndim=3` to clips that stand still; return three frames of the first."""
    clips = images[:, :, None].expand(-1, -1, 32, -1, -1)
    masks, changed = apply(transform, clips)
    return masks[0, :, ::12].movedim(1, 0), changed[0, :, ::12].movedim(1, 0)


def apply(transform: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks of images, and the images mixed or erased by them."""
    masks = transform.sample(images, torch.Generator().manual_seed(SEED))
    return masks, transform(images, mask=masks)


APPLY: dict[int, Callable[[Any, Tensor], tuple[Tensor, Tensor]]] = {1: along_rows, 2: apply, 3: over_time}


def tiles(rows: list[Tensor]) -> Image.Image:
    """Lay images (n, 1 or 3, H, W) in [0, 1] out in rows, on a transparent ground."""
    height, width = rows[0].shape[2:]
    columns = len(rows[0])
    sheet = Image.new("RGBA", (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), (0, 0, 0, 0))
    for i, row in enumerate(rows):
        for j, x in enumerate(row.expand(-1, 3, -1, -1)):
            tile = Image.fromarray((255 * x.float()).byte().permute(1, 2, 0).numpy())
            ImageDraw.Draw(tile).rectangle((0, 0, width - 1, height - 1), outline=EDGE)
            sheet.paste(tile, (j * (width + GAP), i * (height + GAP)))
    return sheet


def gallery_picture(call: str, images: Tensor) -> Image.Image:
    """Draw the masks of a transform above the images that it changes."""
    transform = transform_of(call)
    masks, changed = APPLY[transform.ndim](transform, images)
    return tiles([masks.expand(-1, -1, SIDE, SIDE), changed])


def stages(sigma: float = 10.0, side: int = 256, kept: int = 48) -> dict[str, Image.Image]:
    """Draw how a mask comes about: noise, its low coefficients, their sum, the mask."""
    noise = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(SEED))
    field = ndimage.gaussian_filter(noise[0, 0].double().numpy(), sigma, mode="reflect")
    coefficients = np.abs(fft.dctn(field, norm="ortho"))[:kept, :kept]

    def grey(x: np.ndarray) -> Tensor:
        low, high = np.quantile(x, (0.01, 0.99))
        scaled = torch.from_numpy((x - low) / (high - low)).clamp(0, 1)[None, None]
        return torch.nn.functional.interpolate(scaled, (side, side), mode="nearest")

    pictures = {
        "noise": grey(noise[0, 0].numpy()),
        "coefficients": grey(coefficients),
        "field": grey(field),
        "mask": cow_masks(1, (side, side), sigma, noise=noise),
    }
    return {name: tiles([picture]) for name, picture in pictures.items()}


def painted(shapes: Sequence[tuple[str, str, tuple[int, ...]]]) -> Tensor:
    """Paint a label map in the colours of its classes, (1, 3, SIDE, SIDE) in [0, 1]."""
    picture = Image.new("RGB", (SIDE, SIDE))
    for colour, shape, place in shapes:
        getattr(ImageDraw.Draw(picture), shape)(place, fill=colour)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def strip(images: Tensor) -> Image.Image:
    """Draw two photographs, a mask, and the photographs and their label maps mixed by it."""
    one, other = images[1:2], images[2:3]
    mask = CowMix(sigma=12).sample(one, torch.Generator().manual_seed(SEED))
    mixed, targets = CowMix()(one, painted(CAT), partner=(other, painted(COFFEE)), mask=mask)
    return tiles([torch.cat([one, other, mask.expand(-1, 3, -1, -1).float(), mixed, targets])])


def main(folder: Path) -> None:
    """Write all pictures."""
    images = photographs() / 255
    pictures = {card.name: gallery_picture(card.call, images) for card in cards()}
    pictures |= {"strip": strip(images), **stages()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.webp", quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
