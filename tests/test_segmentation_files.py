"""examples/segmentation/data/files.py and decoding.py."""

import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segmentation.data import files as files_module
from segmentation.data.datasets import DataError
from segmentation.data.decoding import image_size, read_image, read_label
from segmentation.data.files import Files
from tests.miniature import pack

CONTENT = {"top/a/one.txt": b"one" * 500, "top/a/b/two.txt": b"two" * 900, "top/three.txt": b"", "top/a/top": b"top"}
PNG = "top/picture.png"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    extra = {"README": b"", "__MACOSX/top/a/one.txt": b"junk", "top/a/._one.txt": b"junk", "beside/four.txt": b"4"}
    for name, content in {**CONTENT, **extra}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def picture(mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def zip_of(path: Path, content: bytes) -> Files:
    with ZipFile(path, "w") as archive:
        archive.writestr(PNG, content)
    return Files([path], ["top"])


def pack_all(tree: Path, archive: Path) -> Path:
    return pack(tree, ["README", "__MACOSX", "top", "beside"], archive)


@pytest.mark.parametrize("kind", ["folder", "parent", "inside", "zip", "tar"])
def test_every_kind_of_source_is_the_same_tree(tree: Path, tmp_path: Path, kind: str) -> None:
    folders = {"folder": tree, "parent": tree.parent, "inside": tree / "top"}
    source = folders[kind] if kind in folders else pack_all(tree, tmp_path / f"packed.{kind}")
    files = Files([source], ["top"])
    assert files.under("top") == sorted(CONTENT)
    assert files.under("top/a") == ["top/a/b/two.txt", "top/a/one.txt", "top/a/top"]
    assert files.under("to") == []
    assert {name: files.read(name) for name in CONTENT} == CONTENT
    assert "top/a" not in files
    assert "top/a/._one.txt" not in files
    with pytest.raises(DataError, match=r"top/none.txt is missing: it is in none of /"):
        files.read("top/none.txt")


def test_the_anchor_may_be_the_working_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "top")
    files = Files([Path()], ["top"])
    monkeypatch.chdir(tree)
    assert {name: files.read(name) for name in files.under("top")} == CONTENT


def test_several_sources_are_one_tree_and_the_first_counts(tree: Path, tmp_path: Path) -> None:
    archive = pack_all(tree, tmp_path / "packed.zip")
    (tree / "top/a/one.txt").write_bytes(b"changed")
    (tree / "top/a/new.txt").write_bytes(b"new")
    both = Files([archive, tree], ["top", "beside"])
    assert both.read("top/a/one.txt") == CONTENT["top/a/one.txt"]
    assert both.read("top/a/new.txt") == b"new"
    assert both.read("beside/four.txt") == b"4"
    assert Files([tree, archive], ["top"]).read("top/a/one.txt") == b"changed"


def test_the_last_anchor_counts_and_links_are_followed(tree: Path) -> None:
    (tree / "linked").mkdir()
    (tree / "linked/top").symlink_to(tree / "top")
    files = Files([tree / "linked"], ["tree", "top"])
    assert files.under("top") == sorted(CONTENT)
    assert files.under("tree") == []
    (tree / "top/circle").symlink_to(tree)
    (tree / "top/dangling.txt").symlink_to(tree / "nowhere")
    files = Files([tree], ["top"])
    assert files.under("top") == sorted(CONTENT)


def test_each_process_opens_a_zip_once(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openings = []

    def opened(path: Path) -> ZipFile:
        openings.append(os.getpid())
        return ZipFile(path)

    monkeypatch.setattr(files_module, "ZipFile", opened)
    files = Files([pack_all(tree, tmp_path / "packed.zip")], ["top"])
    for name in CONTENT:
        files.read(name)
    assert len(openings) == 1
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a forked process
    for name in CONTENT:
        assert files.read(name) == CONTENT[name]
    assert len(openings) == 2
    copy = pickle.loads(pickle.dumps(files))
    assert copy.read("top/a/one.txt") == CONTENT["top/a/one.txt"]
    assert len(openings) == 3


@pytest.mark.parametrize(
    ("name", "plain_name"),
    [
        ("benchmark.tgz", "benchmark.tar"),
        ("two words.tar.gz", "two words.tar"),
        ("x.tar.bz2", "x.tar"),
        ("x.y.tar.xz", "x.y.tar"),
        ("gz.tar", "unpacked-gz.tar"),
        ("bare", "bare.tar"),
    ],
)
def test_a_compressed_tar_is_refused_with_a_command_that_helps(
    tree: Path, tmp_path: Path, name: str, plain_name: str
) -> None:
    packed = pack_all(tree, tmp_path / (name if name[-3:] in ("bz2", ".xz") else "packed.tgz"))
    path = packed.rename(tmp_path / name)  # by its content, whatever the name says
    plain = tmp_path / plain_name
    with pytest.raises(DataError, match=f"compressed as a whole.* give {re.escape(str(plain))} instead") as caught:
        Files([path], ["top"])
    command = str(caught.value).splitlines()[-1]
    if not shutil.which(command.split()[0]):
        pytest.skip(f"{command.split()[0]} is not installed")
    subprocess.run(command, shell=True, check=True)
    assert path.exists()
    assert Files([plain], ["top"]).read("top/a/one.txt") == CONTENT["top/a/one.txt"]


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere cannot be read: .*No such file.* Expected a folder, a zip or"):
        Files([tmp_path / "nowhere"], ["top"])
    text = tmp_path / "notes.zip"
    for content in (b"not an archive at all\n" * 99, b""):
        text.write_bytes(content)
        with pytest.raises(DataError, match=r"notes.zip is no folder, no zip and no whole uncompressed tar"):
            Files([text], ["top"])


def test_an_unreadable_folder_is_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(folder: Path) -> Any:
        if Path(folder).name == "b":
            raise PermissionError("denied")
        return listed(folder)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"top/a/b cannot be listed: denied. Make it readable"):
        Files([tree], ["top"])


@pytest.mark.parametrize(("kind", "problem"), [("zip", "damaged or incomplete zip"), ("tar", "tar")])
def test_an_incomplete_archive_is_refused(tree: Path, tmp_path: Path, kind: str, problem: str) -> None:
    archive = pack_all(tree, tmp_path / f"packed.{kind}")
    whole = archive.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in (end // 2, end // 1024 * 512, end - 300):
        archive.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"packed.{kind} is .*{problem}"):
            Files([archive], ["top"])


def test_a_tar_with_a_damaged_header_is_refused(tree: Path, tmp_path: Path) -> None:
    archive = pack_all(tree, tmp_path / "packed.tar")
    content = archive.read_bytes()
    start = content.index(b"top/three.txt")
    archive.write_bytes(content[:start] + b"TOP" + content[start + 3 :])
    with pytest.raises(DataError, match=r"packed.tar is a damaged or incomplete tar"):
        Files([archive], ["top"])


def test_a_damaged_member_is_named(tree: Path, tmp_path: Path) -> None:
    archive = pack_all(tree, tmp_path / "packed.zip")
    with ZipFile(archive) as opened:
        offset = opened.getinfo("top/a/one.txt").header_offset
    content = bytearray(archive.read_bytes())
    content[offset + 30 + len("top/a/one.txt") + 3] ^= 255
    archive.write_bytes(content)
    files = Files([archive], ["top"])
    assert files.read("top/a/b/two.txt") == CONTENT["top/a/b/two.txt"]
    with pytest.raises(DataError, match=r"packed.zip: top/a/one.txt is damaged: .*Download the archive again"):
        files.read("top/a/one.txt")


def test_files_that_go_after_the_start_are_reported(tree: Path, tmp_path: Path) -> None:
    archive = pack_all(tree, tmp_path / "packed.tar")
    lying, packed = Files([tree], ["top"]), Files([archive], ["top"])
    (tree / "top/a/one.txt").unlink()
    with pytest.raises(DataError, match=r"top/a/one.txt cannot be read: .*No such file"):
        lying.read("top/a/one.txt")
    archive.write_bytes(archive.read_bytes()[:700])
    with pytest.raises(DataError, match=r"packed.tar: top/a/b/two.txt is cut off"):
        packed.read("top/a/b/two.txt")
    archive.unlink()
    with pytest.raises(DataError, match=r"packed.tar: top/a/b/two.txt cannot be read"):
        packed.read("top/a/b/two.txt")


def test_an_encrypted_member_is_reported(tmp_path: Path) -> None:
    archive = tmp_path / "locked.zip"
    with ZipFile(archive, "w") as file:
        file.writestr(ZipInfo(PNG), picture(), ZIP_DEFLATED)
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"locked.zip: top/picture.png is damaged: .*encrypted"):
        Files([archive], ["top"]).read(PNG)


def test_pictures_are_decoded_and_resized(tmp_path: Path) -> None:
    files = zip_of(tmp_path / "one.zip", picture())
    with Image.open(BytesIO(picture())) as stored:
        assert (read_image(files, PNG).permute(1, 2, 0).numpy() == np.array(stored)).all()
        smaller = np.array(stored.resize((8, 6), Image.Resampling.BILINEAR))
    assert read_image(files, PNG).dtype == torch.uint8
    assert (read_image(files, PNG, (6, 8)).permute(1, 2, 0).numpy() == smaller).all()
    assert image_size(files, PNG) == (9, 12)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "1"])
def test_label_maps_have_one_channel(tmp_path: Path, mode: str) -> None:
    with pytest.raises(DataError, match=rf"one.zip: top/picture.png is no label map: .* its mode is {mode}\."):
        read_label(zip_of(tmp_path / "one.zip", picture(mode)), PNG)


@pytest.mark.parametrize("read", [read_image, read_label, image_size])
def test_every_damage_to_a_picture_is_reported(tmp_path: Path, read: Callable[[Files, str], object]) -> None:
    whole = picture("L")
    places = range(len(whole))
    damaged = [whole[:place] for place in places]
    damaged += [whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :] for place in places]
    refused = 0
    for content in damaged:
        try:
            read(zip_of(tmp_path / "one.zip", content), PNG)
        except DataError as error:
            assert "one.zip: top/picture.png " in str(error)  # noqa: PT017 - not every damage is refused
            refused += 1
    assert refused > 20


def test_damage_in_a_later_chunk_is_reported(tmp_path: Path) -> None:
    stream = BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    noise.save(stream, "PNG")  # too large for one chunk
    first, second, rest = stream.getvalue().split(b"IDAT", 2)
    damaged = b"IDAT".join([first, second]) + b"\0\0\0\0" + rest
    with pytest.raises(DataError, match=r"picture.png cannot be read as an image: broken PNG file"):
        read_image(zip_of(tmp_path / "one.zip", damaged), PNG)
    notes = PngInfo()
    notes.add_text("comment", "much" * 2**20, zip=True)
    noise.save(stream := BytesIO(), "PNG", pnginfo=notes)
    with pytest.raises(DataError, match=r"picture.png cannot be read as an image: Decompressed data too large"):
        read_image(zip_of(tmp_path / "one.zip", stream.getvalue()), PNG)
