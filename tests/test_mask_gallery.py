"""The gallery of masks, by command and by its parts."""

from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image

import mask_gallery
from mask_gallery import (
    FRAME_MILLISECONDS,
    FRAMES,
    PREVIEW_SIDE,
    PROPORTIONS,
    SIGMAS,
    Options,
    OptionsError,
    grid_of_masks,
    preview,
    read_image,
)
from segmentation.data.datasets import DataError
from tests.encoded import png
from tests.forked import run_script

SCRIPT = Path(mask_gallery.__file__)


def run(*arguments: str) -> CompletedProcess[str]:
    return run_script(SCRIPT, *arguments)


def save_picture(path: Path, mode: str, size: tuple[int, int]) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return str(path)


def test_the_command_draws_two_pictures_of_different_sizes(tmp_path: Path) -> None:
    one = save_picture(tmp_path / "one.png", "RGBA", (70, 40))
    two = save_picture(tmp_path / "two.png", "P", (33, 90))
    done = run(one, two, "--sigma", "2", "5", "--size", "48", "64", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "mask-gallery.png") as gallery:
        assert gallery.width > 1000
    with Image.open(tmp_path / "out" / "mask-gallery.gif") as gif:
        frames = []
        for i in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(i)
            frames.append(np.asarray(gif.convert("RGB")))
            assert gif.info["duration"] == FRAME_MILLISECONDS  # the file would store equal frames as one longer frame
        assert gif.info["loop"] == 0
    assert len(frames) == 2 * FRAMES - 2
    assert all((a != b).any() for a, b in pairwise(frames))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pictures_of_every_kind_are_read(tmp_path: Path, mode: str) -> None:
    image = read_image(Path(save_picture(tmp_path / "picture.png", mode, (30, 20))), (24, 36))
    assert image.shape == (3, 24, 36)
    assert image.std() > 0.1
    assert torch.equal(image[0], image[1]) == (mode in ("1", "L", "LA"))


def test_a_picture_is_cut_to_its_middle_and_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = (255, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "middle.png")
    image = read_image(tmp_path / "middle.png", (40, 30))
    torch.testing.assert_close(image, torch.tensor([1, 0, 0.2]).view(3, 1, 1).expand(3, 40, 30))


def test_white_is_seen_through_what_is_transparent(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png", (16, 16)) == 1).all()


def test_pictures_lie_as_the_camera_was_held(tmp_path: Path) -> None:
    picture, exif = Image.new("RGB", (20, 20)), Image.Exif()
    picture.paste((255, 255, 255), (0, 0, 10, 20))  # white on the left
    exif[274] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png", (20, 20))
    assert image[:, :10].mean() > 0.9
    assert image[:, 10:].mean() < 0.1


def test_masks_have_their_proportion_and_grow_with_it() -> None:
    masks = grid_of_masks((128, 128), torch.Generator().manual_seed(0))
    assert masks.shape == (len(PROPORTIONS), len(SIGMAS), 128, 128)
    for proportion, row in zip(PROPORTIONS, masks, strict=True):
        torch.testing.assert_close(row[:4].float().mean((1, 2)), torch.full((4,), proportion), atol=0.03, rtol=0)
    assert (masks[:-1] <= masks[1:]).all(), "the masks are not from one noise"
    changes = (masks[1, :, 1:] != masks[1, :, :-1]).float().mean((1, 2))
    assert changes[0] == pytest.approx(0.5, abs=0.02), "sigma 0.1 is not the Bernoulli limit"
    assert (changes.diff() < 0).all(), "features do not grow with sigma"


def test_the_mixed_images_are_of_both_where_their_masks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []
    monkeypatch.setattr(mask_gallery, "show", lambda _, picture: shown.append(picture))
    generator = torch.Generator().manual_seed(0)
    one, other = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    mask_gallery.save_gallery(tmp_path / "gallery.png", (one, other), Options(proportion=0.3, size=(64, 64)), generator)
    first, second, *mixed = shown[-6:]
    assert torch.equal(first, one[0])
    assert torch.equal(second, other[0])
    for mask, image in zip(mixed[::2], mixed[1::2], strict=True):
        assert torch.equal(image, mask.expand(3, -1, -1).float())
    assert mixed[2].float().mean() == pytest.approx(0.3, abs=0.02)  # exact, for CutMix


def test_preview_shows_the_second_image_where_the_mask_is_white() -> None:
    one, other = torch.zeros(1, 3, 64, 96), torch.ones(1, 3, 64, 96)
    frames = preview((one, other), torch.Generator().manual_seed(0))
    assert len(frames) == FRAMES
    shown = [np.asarray(frame.convert("RGB"))[22:] for frame in frames]
    for pixels in shown:
        mask, mixed = pixels[:, :PREVIEW_SIDE], pixels[:, PREVIEW_SIDE : 2 * PREVIEW_SIDE]
        assert np.array_equal(mask, mixed)
        assert 0.2 < (mask == 255).mean() < 0.8
    steps = [(a != b).mean() for a, b in pairwise(shown)]
    assert 0 < min(steps) <= max(steps) < 0.25, "masks jump from frame to frame"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": (Path("one.png"),)}, "two images or none, got 1"),
        ({"sigma": (16.0, 4.0)}, "sigma"),
        ({"proportion": 1.5}, "proportion"),
        ({"size": (8, 64)}, "at least 16"),
    ],
)
def test_bad_options_are_refused(options: dict[str, tuple[Path, ...]], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Options(**options)  # type: ignore[arg-type]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    good = save_picture(tmp_path / "good.png", "RGB", (20, 20))
    for content in (b"no picture", png(10_000, 10_000, 8, 2, b"")[0]):
        (tmp_path / "bad.png").write_bytes(content)
        done = run(good, str(tmp_path / "bad.png"))
        assert done.returncode == 1
        assert done.stderr.startswith(f"mask_gallery: {tmp_path / 'bad.png'} cannot be read as an image: ")
        assert len(done.stderr.splitlines()) == 1


def test_pictures_of_16_bits_are_refused(tmp_path: Path) -> None:
    Image.new("I;16", (20, 20)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_image(tmp_path / "deep.png", (16, 16))
