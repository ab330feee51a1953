"""Figure 4 of the paper: cow masks over sigma and proportion; and CowMix beside CutMix on two images.

pip install ".[examples]"
python examples/mask_gallery.py                                  two built-in street scenes
python examples/mask_gallery.py a.jpg b.jpg --sigma 4 16
python examples/mask_gallery.py --help

The script writes mask-gallery.png, and mask-gallery.gif, where sigma grows. Images are cut and scaled to --size. White
in a mask is True: taken from the second image.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from cowmask import CowMix, CutMix, cow_masks, mix
from segmentation.data.datasets import DataError
from segmentation.data.decoding import read_picture
from segmentation.data.files import read_file
from segmentation.data.street import load_street

SIGMAS = (0.1, 1, 2, 4, 8, 16, 32)  # pixels; at 0.1 nothing is blurred
PROPORTIONS = (0.25, 0.5, 0.75)
SCENES = (8, 23)  # two built-in scenes that differ
FRAMES = 20  # from the smallest sigma to the largest, shown there and back
PREVIEW_SIDE = 160  # pixels, longer side of each picture
FRAME_MILLISECONDS = 130
COLOURS = 48  # in a frame


class OptionsError(Exception):
    """An option cannot be used; the message is for the user."""


@dataclass(frozen=True)
class Options:
    """Options of the gallery."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Two images, the second shown where a mask is white; by default two street scenes."""
    sigma: tuple[float, float] = (4, 16)
    """Range of CowMix's sigma, pixels; titles give the sigma of the masks above."""
    proportion: float = 0.5
    """Share of the second image, for CowMix (expected) and CutMix."""
    size: tuple[int, int] = (384, 384)
    """Height and width of masks and images, pixels."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of all random numbers."""
    out: Path = Path("runs/mask-gallery")
    """Folder for mask-gallery.png and mask-gallery.gif."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if len(self.images) not in (0, 2):
            raise OptionsError(f"expected two images or none, got {len(self.images)}.")
        if min(self.size) < 16:
            raise OptionsError("--size must be at least 16 pixels each way.")
        try:
            CowMix(self.sigma, self.proportion)
        except ValueError as error:
            raise OptionsError(f"{error}.") from error


def read_image(path: Path, size: tuple[int, int]) -> Tensor:
    """Read an image, its middle scaled to (height, width): (3, H, W) in [0, 1]."""
    picture = ImageOps.fit(read_picture(read_file(path)), size[::-1])
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def load_images(options: Options) -> tuple[Tensor, Tensor]:
    """Return two images, each (1, 3, H, W) in [0, 1]."""
    if options.images:
        one, other = (read_image(path, options.size) for path in options.images)
    else:
        scenes = load_street(options.size, max(SCENES) + 1, 1, 1).train
        one, other = (scenes.image(index) / 255 for index in SCENES)
    return one[None], other[None]


def grid_of_masks(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw masks from one noise for each proportion and sigma: (proportions, sigmas, H, W) bool."""
    n = len(PROPORTIONS) * len(SIGMAS)
    proportions, sigmas = torch.cartesian_prod(torch.tensor(PROPORTIONS), torch.tensor(SIGMAS)).unbind(1)
    noise = torch.randn(1, 1, *size, generator=generator).expand(n, -1, -1, -1)
    return cow_masks(n, size, sigmas, proportions, noise=noise).view(len(PROPORTIONS), len(SIGMAS), *size)


def show(axis: Axes, picture: Tensor) -> None:
    """Draw an image (3, H, W) or a mask (1, H, W) in a frame, as masks may end in white."""
    axis.imshow(picture.expand(3, -1, -1).permute(1, 2, 0).float().numpy(), interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def save_gallery(path: Path, images: tuple[Tensor, Tensor], options: Options, generator: torch.Generator) -> None:
    """Draw masks over sigma and proportion, and below them the images mixed by CowMix and CutMix."""
    height, width = options.size
    ratio = height / width
    figure = plt.figure(figsize=(13, 7.7 * ratio + 1.4), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(5.5 * ratio + 0.7, 2.2 * ratio + 0.7))[:, 0]
    masks_of = f"Cow masks of {width}x{height} pixels, all of the same noise"
    above.suptitle(f"{masks_of}; white, of proportion p: taken from the second image")
    rows = above.subplots(len(PROPORTIONS), len(SIGMAS))
    for row, proportion, masks in zip(rows, PROPORTIONS, grid_of_masks(options.size, generator), strict=True):
        for axis, mask in zip(row, masks, strict=True):
            show(axis, mask[None])
        row[0].set_ylabel(f"p = {proportion:g}")
    for axis, sigma in zip(rows[0], SIGMAS, strict=True):
        axis.set_title(f"sigma {sigma:g} px", fontsize="medium")

    one, other = images
    cowmix, cutmix = CowMix(options.sigma, options.proportion), CutMix(options.proportion)
    pictures = {"first image": one, "second image": other}
    for name, method in {"CowMix": cowmix, "CutMix": cutmix}.items():
        mask = method.sample(one, generator)
        pictures |= {f"{name}, mask": mask, name: method(one, partner=other, mask=mask)}
    low, high = options.sigma
    below.suptitle(f"Two images mixed: sigma of CowMix {low:g}-{high:g} px, p = {options.proportion:g} for both")
    for axis, (title, picture) in zip(below.subplots(1, len(pictures)), pictures.items(), strict=True):
        show(axis, picture[0])
        axis.set_title(title, fontsize="medium")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def preview(images: tuple[Tensor, Tensor], generator: torch.Generator) -> list[Image.Image]:
    """Draw masks of one noise as sigma grows, each beside the images (1, 3, H, W) mixed by it."""
    height, width = (round(side * PREVIEW_SIDE / max(images[0].shape[2:])) for side in images[0].shape[2:])
    small = (interpolate(x, (height, width), mode="area") for x in images)
    one, other = (x.expand(FRAMES, -1, -1, -1) for x in small)
    noise = torch.randn(1, 1, height, width, generator=generator).expand(FRAMES, -1, -1, -1)
    sigmas = torch.logspace(0, 5, FRAMES, base=2)  # 1 to 32
    masks = cow_masks(FRAMES, (height, width), sigmas, noise=noise, method="spectral")
    pairs = torch.cat([masks.expand(-1, 3, -1, -1).float(), mix(one, other, masks)], dim=3)
    font, frames = ImageFont.load_default(14), []
    for pixels, sigma in zip(pairs.mul(255).byte().permute(0, 2, 3, 1).numpy(), sigmas.tolist(), strict=True):
        frame = Image.new("RGB", (max(2 * width, 280), height + 22), "white")
        frame.paste(Image.fromarray(pixels), (0, 22))
        ImageDraw.Draw(frame).text((4, 2), f"sigma {sigma:.1f} of {width} px; white: the second", "black", font)
        frames.append(frame.quantize(COLOURS, dither=Image.Dither.NONE))  # 0.4 MB; 0.7 with 256 colours
    return frames


def main(options: Options) -> None:
    """Write the gallery and the preview."""
    images = load_images(options)
    generator = torch.Generator().manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    save_gallery(options.out / "mask-gallery.png", images, options, generator)
    first, *others = preview(images, generator)
    there_and_back = [*others, *others[-2::-1]]
    gif = options.out / "mask-gallery.gif"
    first.save(gif, save_all=True, append_images=there_and_back, duration=FRAME_MILLISECONDS, loop=0)
    print(f"Written: mask-gallery.png and mask-gallery.gif in {options.out}.")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (OptionsError, DataError, OSError) as error:
        sys.exit(f"mask_gallery: {error}")
