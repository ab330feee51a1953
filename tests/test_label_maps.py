"""examples/segmentation/data/label_maps.py: the one reader of label maps."""

import numpy as np
import pytest
from PIL import Image
from PIL.ImageFile import ImageFile

from segmentation.data.datasets import VOID, DataError
from segmentation.data.decoding import Encoded
from segmentation.data.label_maps import codes, read_ids, read_label
from tests.encoded import IDS, RGB, as_stored, encode, png

MEANING = codes({**{stored: stored for stored in range(11)}, 11: VOID})
EXPECTED = np.where(IDS == 11, VOID, IDS)
IMAGE, LABEL = encode(RGB, where="an/image"), encode(IDS)
SQUARE = IDS[:9, :9]
every_turn = pytest.mark.parametrize("orientation", range(2, 9))


def label_of(file: Encoded, image: Encoded = IMAGE) -> np.ndarray:
    return read_label(file, image, MEANING).numpy()


def photo(upright: np.ndarray, orientation: int, kind: str = "PNG") -> Encoded:
    """Return an image of the size of a label map, as a camera stores it."""
    return encode(as_stored(np.stack([upright] * 3, axis=2), orientation), kind, orientation, where="an/image")


def palette(ids: np.ndarray) -> Image.Image:
    picture = Image.fromarray(ids)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    return picture


@pytest.mark.parametrize(
    "file",
    [
        encode(IDS),
        encode(IDS, "TIFF"),
        encode(IDS, "TIFF", compression="tiff_lzw"),
        encode(IDS, "BMP"),
        encode(IDS, "PPM"),
        encode(palette(IDS)),
        encode(palette(IDS), bits=4),
        encode(palette(IDS), "BMP"),
        encode(IDS.astype(np.uint16)),
        encode(IDS.astype(np.uint16), "TIFF"),
        encode(IDS.astype(np.int32), "TIFF"),
        Encoded(b"P2 12 9 255 " + b" ".join(b"%d" % stored for stored in IDS.ravel().tolist()), "a/picture"),
        png(12, 9, 4, 0, b"".join(b"\0" + bytes((row[::2] << 4 | row[1::2]).tolist()) for row in IDS)),
    ],
)
def test_ids_are_the_numbers_as_stored(file: Encoded) -> None:
    assert np.array_equal(read_ids(file)[0], IDS)
    label = read_label(file, IMAGE, MEANING)
    assert np.array_equal(label.numpy(), EXPECTED)


def test_ids_of_one_and_two_bits() -> None:
    assert np.array_equal(read_ids(encode(IDS > 5))[0], IDS > 5)
    quarters = IDS % 4
    packed = quarters.reshape(9, 3, 4) @ np.array([64, 16, 4, 1])
    file = png(12, 9, 2, 0, b"".join(b"\0" + bytes(row.tolist()) for row in packed))
    assert np.array_equal(read_ids(file)[0], quarters)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (encode(IDS, "JPEG"), "is a JPEG, which changes ids at the borders of objects: save label maps as PNG"),
        (encode(RGB), "is no label map: expected one channel that holds ids, but its mode is RGB"),
        (encode(IDS, "WEBP", lossless=True), "is no label map: expected one channel .* its mode is RGB"),
        (encode(Image.fromarray(IDS).convert("LA")), "is no label map: expected one channel .* its mode is LA"),
        (encode(Image.fromarray(RGB).convert("RGBA")), "is no label map: expected one channel .* its mode is RGBA"),
        (encode(IDS.astype(np.float32), "TIFF"), "is no label map: expected one channel .* its mode is F"),
        (encode(IDS, "TIFF", tiffinfo={262: 0}), "is no label map .* stored inverted or scaled: save it as PNG"),
        (encode(IDS > 5, "PPM"), "is no label map .* stored inverted or scaled: save it as PNG"),
        (Encoded(b"P5 12 9 20 " + IDS.tobytes(), "a/picture"), "is no label map .* stored inverted or scaled"),
        (Encoded(b"P2 2 1 20 7 9", "a/picture"), "is no label map .* stored inverted or scaled"),
        (encode(IDS + np.uint16(300)), r"holds the id 3\d\d: expected whole numbers from 0 to 255"),
        (encode(IDS - np.int32(300), "TIFF"), r"holds the id -2\d\d: expected whole numbers from 0 to 255"),
        (encode(IDS + np.uint8(1)), "holds the id 12: expected 0 to 11"),
        (encode(np.full_like(IDS, 254)), "holds the id 254: expected 0 to 11"),
        (Encoded(b"no picture", "a/picture"), "cannot be read as an image: it is none of"),
        (Encoded(encode(IDS).content[:60], "a/picture"), "cannot be read as an image: .*truncated"),
    ],
)
def test_what_holds_no_ids_is_refused(file: Encoded, problem: str) -> None:
    with pytest.raises(DataError, match=f"^a/picture {problem}"):
        label_of(file)


def test_known_ids_are_told_as_ranges() -> None:
    meaning = codes({0: 0, 1: 1, 7: 2, VOID: VOID})
    with pytest.raises(DataError, match=r"holds the id \d+: expected 0 to 1 and 7 and 255\.$"):
        read_label(encode(IDS), IMAGE, meaning)


@pytest.mark.parametrize("orientation", [None, 1])
@pytest.mark.parametrize("shape", [(8, 12), (9, 11), (12, 9), (18, 24), (1, 1)])
def test_label_maps_of_another_size_are_refused(shape: tuple[int, int], orientation: int | None) -> None:
    label = encode(np.zeros(shape, dtype=np.uint8), where="a/label")
    size = f"{shape[1]}x{shape[0]}"
    message = rf"^a/label is no label map of its image: it is {size}, but an/image is 12x9 \(width x height\)\.$"
    with pytest.raises(DataError, match=message):
        label_of(label, encode(RGB, orientation=orientation, where="an/image"))


@every_turn
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_label_map_of_its_images_orientation_is_turned_alike(orientation: int, kind: str) -> None:
    for ids in (IDS, SQUARE):
        label = encode(as_stored(ids, orientation), kind, orientation)
        turned = label_of(label, photo(ids, orientation, "JPEG"))
        assert np.array_equal(turned, np.where(ids == 11, VOID, ids))


@pytest.mark.parametrize("says", [None, 1])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_its_size_says_how_a_label_map_lies_under_a_quarter_turn(orientation: int, kind: str, says: int | None) -> None:
    image = photo(IDS, orientation, kind)
    assert np.array_equal(label_of(encode(IDS, kind, says), image), EXPECTED)
    assert np.array_equal(label_of(encode(as_stored(IDS, orientation), kind, says), image), EXPECTED)


@every_turn
@pytest.mark.parametrize("says", [None, 1])
def test_a_label_map_that_could_lie_in_two_ways_is_refused(orientation: int, says: int | None) -> None:
    for ids in (SQUARE,) if orientation >= 5 else (SQUARE, IDS):
        for stored in (ids, as_stored(ids, orientation)):
            with pytest.raises(
                DataError,
                match=rf"^a/picture could lie in two ways, as an/image is turned or mirrored by its EXIF orientation "
                rf"{orientation}: save the image as it is seen, without an orientation\.$",
            ):
                label_of(encode(stored, orientation=says), photo(ids, orientation))


@every_turn
def test_a_label_map_of_another_orientation_is_refused(orientation: int) -> None:
    for of_image in {*range(1, 9)} - {orientation}:
        with pytest.raises(DataError, match=rf"it is \d+x\d+ with EXIF orientation {orientation}, but an/image is "):
            label_of(encode(as_stored(IDS, orientation), orientation=orientation), photo(IDS, of_image))


@every_turn
@pytest.mark.parametrize("own", [False, True])
def test_a_label_map_of_another_size_than_its_turned_image_is_refused(orientation: int, own: bool) -> None:
    label = encode(np.zeros((5, 7), dtype=np.uint8), orientation=orientation if own else None)
    with pytest.raises(DataError, match=r"is no label map of its image: it is 7x5.*, but an/image is .* orientation"):
        label_of(label, photo(IDS, orientation))


def test_label_maps_are_turned_before_they_are_resized() -> None:
    label = read_label(encode(as_stored(IDS, 6)), photo(IDS, 6), MEANING, (18, 24))
    assert np.array_equal(label.numpy(), EXPECTED.repeat(2, axis=0).repeat(2, axis=1))


def test_labels_are_resized_without_blending() -> None:
    label = read_label(encode(IDS), IMAGE, MEANING, (3, 4)).numpy()
    assert (label[:, None, :, None] == EXPECTED.reshape(3, 3, 4, 3)).any(axis=(1, 3)).all()


@pytest.mark.parametrize("image", [Encoded(b"", "an/image"), Encoded(IMAGE.content[:20], "an/image")])
def test_an_image_without_a_header_is_named(image: Encoded) -> None:
    with pytest.raises(DataError, match=r"^an/image cannot be read as an image: "):
        label_of(encode(IDS), image)


def test_any_failure_of_the_decoder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ImageFile) -> None:
        raise RecursionError

    monkeypatch.setattr(ImageFile, "load", fail)
    with pytest.raises(DataError, match=r"^a/picture cannot be read as an image: RecursionError, replace the file\.$"):
        read_ids(LABEL)
