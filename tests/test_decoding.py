"""examples/segmentation/data/decoding.py: the one reader of images."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo

from segmentation.data.datasets import DataError
from segmentation.data.decoding import Encoded, Header, check_image, read_header, read_image, read_picture
from tests.encoded import ORIENTATION, RGB, as_stored, chunk, encode, png

READERS: list[Callable[[Encoded], object]] = [read_image, check_image]
every_reader = pytest.mark.parametrize("read", READERS)


def pixels(file: Encoded) -> np.ndarray:
    return read_image(file).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("MPO", {"quality": 95, "save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),  # of two lenses
    ],
)
def test_formats_are_told_by_content(kind: str, options: dict[str, Any]) -> None:
    smooth = np.asarray(Image.fromarray(RGB[:3, :4]).resize((48, 36), Image.Resampling.BICUBIC))
    file = encode(smooth, kind, **options)
    check_image(file)
    error = np.abs(pixels(file).astype(int) - smooth)
    assert error.max() == 0 or ((kind in ("JPEG", "MPO") or not options) and error.mean() < 8)


@every_reader
@pytest.mark.parametrize("kind", ["GIF", "EPS", "PDF", "ICO", "TGA", "JPEG2000", "SGI", "DDS"])
def test_other_formats_are_not_opened(kind: str, read: Callable[[Encoded], object]) -> None:
    with pytest.raises(DataError, match=r"^a/picture cannot be read as an image: it is none of JPEG, PNG, "):
        read(encode(RGB, kind))


@every_reader
@pytest.mark.parametrize("content", [b"", b"no picture", b"\0\5\x16\7" + bytes(60)])
def test_what_is_no_picture_is_refused(content: bytes, read: Callable[[Encoded], object]) -> None:
    with pytest.raises(DataError, match=r"it is none of JPEG, PNG, WEBP, TIFF, BMP, PPM, or its start is damaged\.$"):
        read(Encoded(content, "x.png"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_colours_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "PA") else "PNG"
    file = encode(Image.fromarray(RGB).convert(mode), kind)
    check_image(file)
    assert read_image(file).shape == (3, 9, 12)
    expected = np.asarray(Image.fromarray(RGB).convert(mode).convert("RGB"))
    assert np.array_equal(pixels(file), expected)


def test_white_is_seen_through_what_is_transparent() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert (pixels(encode(clear)) == 255).all()
    half = pixels(encode(Image.new("LA", (4, 4), (0, 128))))
    assert (np.abs(half.astype(int) - 127) <= 1).all()
    assert (pixels(encode(Image.new("RGB", (4, 4), (9, 8, 7)), transparency=(9, 8, 7))) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert (pixels(encode(palette, transparency=1)) == 255).all()


@every_reader
def test_grey_of_more_than_8_bits_is_refused(read: Callable[[Encoded], object]) -> None:
    for file in (encode(RGB[..., 0].astype(np.uint16)), encode(RGB[..., 0].astype(np.float32), "TIFF")):
        with pytest.raises(DataError, match=r"^a/picture has more than 8 bits a channel: save it with 8\.$"):
            read(file)


def test_rgb_of_16_bits_keeps_its_8_highest() -> None:
    rows = b"".join(b"\0" + (RGB[row].astype(">u2") * 256 + 77).astype(">u2").tobytes() for row in range(9))
    file = png(12, 9, 16, 2, rows)
    check_image(file)
    assert np.array_equal(pixels(file), RGB)


@every_reader
def test_other_colour_spaces_are_refused(read: Callable[[Encoded], object]) -> None:
    with pytest.raises(DataError, match=r"^a/picture has LAB colours: save it as RGB\.$"):
        read(encode(Image.new("LAB", (4, 4)), "TIFF"))


def test_images_are_resized() -> None:
    small = np.asarray(Image.fromarray(RGB).resize((8, 6), Image.Resampling.BILINEAR))
    resized = read_image(encode(RGB), (6, 8))
    assert np.array_equal(resized.permute(1, 2, 0).numpy(), small)
    assert resized.dtype == torch.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_images_lie_as_the_camera_was_held(kind: str, orientation: int) -> None:
    upright = np.zeros((48, 80, 3), dtype=np.uint8)
    upright[:16, :16] = (250, 20, 20)  # marks that no turn leaves where they are
    upright[:16, 64:] = (20, 20, 250)
    stored = as_stored(upright, orientation)
    file = encode(stored, kind, orientation)
    check_image(file)
    assert (np.abs(pixels(file).astype(int) - upright) > 90).mean() < 0.02
    assert read_header(file) == Header("a/picture", (stored.shape[1], stored.shape[0]), orientation)


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_meaningless_orientations_turn_nothing(orientation: int) -> None:
    file = encode(RGB, orientation=orientation)
    assert np.array_equal(pixels(file), RGB)
    assert read_header(file).orientation == 1


def test_exif_behind_the_pixels_counts() -> None:
    content = encode(RGB).content
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    end = content.index(b"IEND") - 4
    late = content[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + content[end:]
    assert np.array_equal(pixels(Encoded(late, "late")), RGB[::-1, ::-1])
    assert read_header(Encoded(late, "late")).orientation == 3


@every_reader
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_enormous_pictures_are_refused_before_they_are_decoded(
    size: tuple[int, int], read: Callable[[Encoded], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "load", lambda _: pytest.fail("the picture is decoded"))
    with pytest.raises(DataError, match=r"^a/picture cannot .* it has more than 89,478,485 pixels, make it smaller\.$"):
        read(png(*size, 8, 2, bytes(99)))


def damaged(whole: bytes) -> list[bytes]:
    """Return a file cut off everywhere, and with a byte changed everywhere."""
    places = range(len(whole))
    flipped = [whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :] for place in places]
    return [whole[:place] for place in places] + flipped


def verdict(read: Callable[[Encoded], object], file: Encoded) -> str:
    try:
        read(file)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_every_damage_is_refused_in_one_sentence_or_read(kind: str) -> None:
    whole = encode(RGB, kind, None if kind in ("BMP", "PPM") else 6).content
    refused = 0
    for content in damaged(whole):
        said = {read: verdict(read, Encoded(content, "a/picture")) for read in (*READERS, read_picture)}
        assert all(not one or re.fullmatch(r"a/picture [^\n]+\.", one) for one in said.values()), said
        assert bool(said[check_image]) == bool(said[read_image]), content
        refused += bool(said[read_image])
    assert refused > 20


@every_reader
def test_damage_in_a_later_chunk_is_reported(read: Callable[[Encoded], object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)  # too large for one chunk
    first, second, rest = encode(noise).content.split(b"IDAT", 2)
    broken = b"IDAT".join([first, second]) + b"\0\0\0\0" + rest
    with pytest.raises(DataError, match=r"^x.png cannot be read as an image: broken PNG file"):
        read(Encoded(broken, "x.png"))


@every_reader
def test_a_large_profile_or_note_is_refused(read: Callable[[Encoded], object]) -> None:
    notes = PngInfo()
    notes.add_text("comment", "much" * 2**20, zip=True)
    for file in (encode(RGB, icc_profile=bytes(2 << 20)), encode(RGB, pnginfo=notes)):
        with pytest.raises(DataError, match=r"^a/picture cannot be read as an image: Decompressed data too large"):
            read(file)
