"""examples/segmentation/data/files.py."""

import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from segmentation.data import files as files_module
from segmentation.data.datasets import DataError
from segmentation.data.decoding import Encoded
from segmentation.data.files import Files, pictures_in, read_file
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
    with pytest.raises(DataError, match=r"top/a/one.txt is missing\."):
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
        file.writestr(ZipInfo(PNG), b"content", ZIP_DEFLATED)
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"locked.zip: top/picture.png is damaged: .*encrypted"):
        Files([archive], ["top"]).read(PNG)


def test_a_picture_is_named_by_archive_and_member(tree: Path, tmp_path: Path) -> None:
    archive = pack_all(tree, tmp_path / "packed.zip")
    content = CONTENT["top/three.txt"]
    assert Files([archive], ["top"]).encoded("top/three.txt") == Encoded(content, f"{archive}: top/three.txt")
    lying = Files([tree], ["top"]).encoded("top/three.txt")
    assert lying == Encoded(content, str(tree / "top/three.txt"))
    with pytest.raises(DataError, match=r"top/none.txt is missing") as caught:
        Files([tree], ["top"]).encoded("top/none.txt")
    assert (caught.value.fault, caught.value.where) == ("are missing", "top/none.txt")


def test_suffixes_in_archives_and_folders_are_of_any_case(tree: Path, tmp_path: Path) -> None:
    (tree / "top/B.One.PNG").write_bytes(b"png")
    for source in (tree, pack_all(tree, tmp_path / "packed.zip"), pack_all(tree, tmp_path / "packed.tar")):
        assert Files([source], ["top"]).read("top/B.One.png") == b"png"
    (tree / "top/B.One.png").write_bytes(b"another")
    for source in (tree, pack_all(tree, tmp_path / "packed.zip"), pack_all(tree, tmp_path / "packed.tar")):
        with pytest.raises(
            DataError, match=r"top/B.One.PNG and .*top/B.One.png have the same name: which is it\? Keep"
        ):
            Files([source], ["top"])


def test_pictures_in_a_folder_are_found_by_their_suffixes(tmp_path: Path) -> None:
    names = ["a-1.png", "a.JPG", "b.tiff", "c.Bmp", "d.webp", "deep/e.PNG", "f.g.ppm"]
    others = [
        "._a.png",
        ".DS_Store",
        "Thumbs.db",
        "notes.txt",
        "a.gif",
        "a",
        ".hidden/x.png",
        "deep/._e.png",
        "__MACOSX/a.png",
    ]
    for folder in ("deep", ".hidden", "__MACOSX", "folder.png"):
        (tmp_path / folder).mkdir()
    for name in (*names, *others):
        (tmp_path / name).write_bytes(b"")
    assert list(pictures_in(tmp_path)) == ["a-1", "a", "b", "c", "d", "f.g"]
    everywhere = pictures_in(tmp_path, nested=True)
    assert everywhere == {Path(name).with_suffix("").as_posix(): tmp_path / name for name in names}


@pytest.mark.parametrize(("one", "other"), [("x.jpg", "x.png"), ("x.PNG", "x.png"), ("y/x.tif", "y/x.tiff")])
def test_two_pictures_of_one_name_are_refused(tmp_path: Path, one: str, other: str) -> None:
    for name in (one, other):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    message = rf"^{tmp_path / one} and {Path(other).name} have the same name: which is it\? Keep one of them\.$"
    with pytest.raises(DataError, match=message):
        pictures_in(tmp_path, nested=True)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/none.png is missing\.$") as caught:
        read_file(tmp_path / "none.png")
    assert (caught.value.fault, caught.value.where) == ("are missing", f"{tmp_path}/none.png")
    with pytest.raises(DataError, match=rf"^{tmp_path} cannot be read: Is a directory\.$") as caught:
        read_file(tmp_path)
    assert (caught.value.fault, caught.value.where) == ("cannot be read", str(tmp_path))
