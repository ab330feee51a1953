"""Pictures in a folder; folders, zips and plain tars as one tree of files, read in place."""

import os
import re
import shlex
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from lzma import LZMAError
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile, ZipFile

from segmentation.data.datasets import DataError
from segmentation.data.decoding import Encoded

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm")  # in any case
_UNPACKERS = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\x00": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
_DAMAGED_ZIP = (BadZipFile, zlib.error, LZMAError, OSError, EOFError, RuntimeError, ValueError)


def read_file(path: Path) -> Encoded:
    """Return a file's content; raise a DataError if it is missing or cannot be read."""
    try:
        return Encoded(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.", "are missing", str(path)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", where=str(path)) from error


def pictures_in(folder: Path, nested: bool = False) -> dict[str, Path]:
    """Return the pictures in a folder by their names without suffix, in the order of their file names.

    Hidden files and folders, what macOS adds, and files with other suffixes are skipped.

    Args:
        folder: Where to look.
        nested: Whether to look in its folders, too. Names are then paths from `folder` on.

    Raises:
        DataError: If the folder cannot be listed, or two pictures differ in their suffixes alone.
    """
    pictures: dict[str, Path] = {}
    for path in _visible(folder, nested):
        if path.suffix.lower() in PICTURES:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in pictures:
                raise DataError(f"{pictures[name]} and {path.name} have the same name: which is it? Keep one of them.")
            pictures[name] = path
    return pictures


def others_in(folder: Path) -> Counter[str]:
    """Count the files in a folder and its folders that `pictures_in` skips for their suffixes, by suffix."""
    suffixes = (path.suffix.lower() or path.name for path in _visible(folder, nested=True))
    return Counter(suffix for suffix in suffixes if suffix not in PICTURES)


def _visible(folder: Path, nested: bool) -> Iterator[Path]:
    for path in map(Path, _walk(folder, (), nested)):
        if not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts):
            yield path


class Source(Protocol):
    """A folder or an archive."""

    def members(self) -> Iterable[str]:
        """Return the paths of all files, with slashes."""

    def read(self, member: str) -> bytes:
        """Return a file's content."""

    def where(self, member: str) -> str:
        """Return a file's location, for a message."""


class Files:
    """The files of several sources, each named by its path from an anchor folder on.

    With the anchor `gtFine`, `/data/gtFine/val/x.png` in a folder and `gtFine/val/x.PNG` in a zip are both named
    `gtFine/val/x.png`. If two files have the same name, the first source's is read. Instances may be pickled and
    forked: every process opens the archives for itself.

    Args:
        sources: Folders, zips and uncompressed tars.
        anchors: Names of folders; files outside them are ignored.

    Raises:
        DataError: If a source is missing, damaged, compressed as a whole, or of another kind.
    """

    def __init__(self, sources: Sequence[Path], anchors: Sequence[str]) -> None:
        self.sources = tuple(sources)
        self._places: dict[str, tuple[Source, str]] = {}
        for path in sources:
            source = _open(path)
            for member in source.members():
                name = _from_anchor(member, anchors)
                if name is not None:
                    self._add(name, source, member)

    def _add(self, name: str, source: Source, member: str) -> None:
        known, place = self._places.setdefault(name, (source, member))
        if known is source and place != member and place.lower() == member.lower():
            raise DataError(f"{source.where(place)} and {member} have the same name: which is it? Keep one of them.")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def under(self, folder: str) -> list[str]:
        """Return the sorted names of all files below a folder."""
        return sorted(name for name in self._places if name.startswith(f"{folder}/"))

    def read(self, name: str) -> bytes:
        """Return a file's content; raise a DataError if it is missing or damaged."""
        if name not in self._places:
            sources = ", ".join(map(str, self.sources))
            raise DataError(f"{name} is missing: it is in none of {sources}.", "are missing", name)
        source, member = self._places[name]
        return source.read(member)

    def encoded(self, name: str) -> Encoded:
        """Return a picture's file; raise a DataError if it is missing or damaged."""
        return Encoded(self.read(name), self.where(name))

    def where(self, name: str) -> str:
        """Return a file's location, for a message."""
        source, member = self._places[name]
        return source.where(member)

    def lacking(self, names: Sequence[str], what: str) -> list[str]:
        """Return one line on how many of the named files are missing, or no line."""
        absent = [name for name in names if name not in self]
        return [f"{len(absent)} of {len(names)} {what} are missing, the first is {absent[0]}"] if absent else []

    def require(self, title: str, missing: Sequence[str], layout: str) -> None:
        """Raise one DataError with all lines on missing files, if there are any."""
        if missing:
            lines = "".join(f"\n- {line}" for line in missing)
            sources = ", ".join(map(str, self.sources)) or "no folder or archive"
            raise DataError(f"{title} is not complete in {sources}:{lines}\nExpected, in folders or archives: {layout}")


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # its own or a parent's name may be an anchor

    def members(self) -> Iterator[str]:
        return _walk(self._path, ())

    def read(self, member: str) -> bytes:
        return read_file(Path(member)).content

    def where(self, member: str) -> str:
        return member


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, ZipFile] | None = None  # with the process that opened it

    def members(self) -> list[str]:
        return [info.filename for info in self._archive().infolist() if not info.is_dir()]

    def read(self, member: str) -> bytes:
        archive = self._archive()
        try:
            return archive.read(member)
        except _DAMAGED_ZIP as error:
            raise DataError(
                f"{self.where(member)} is damaged: {error}. Download the archive again.", where=self.where(member)
            ) from error

    def where(self, member: str) -> str:
        return f"{self._path}: {member}"

    def _archive(self) -> ZipFile:
        # After a fork both processes would share one position in the file.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), ZipFile(self._path)
            except _DAMAGED_ZIP as error:
                raise DataError(f"{self._path} is a damaged or incomplete zip: {error}. Download it again.") from error
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


class _Tar:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._extents = _tar_extents(path)

    def members(self) -> Iterable[str]:
        return self._extents

    def read(self, member: str) -> bytes:
        offset, size = self._extents[member]
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise DataError(f"{self.where(member)} cannot be read: {error}.", where=self.where(member)) from error
        if len(content) != size:
            raise DataError(f"{self.where(member)} is cut off. Download the archive again.", where=self.where(member))
        return content

    def where(self, member: str) -> str:
        return f"{self._path}: {member}"


def _open(path: Path) -> Source:
    try:
        if path.is_dir():
            return _Folder(path)
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Expected a folder, a zip or an uncompressed tar.") from error
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _Zip(path)
    for magic, unpacker in _UNPACKERS.items():
        if start.startswith(magic):
            plain = path.with_name(re.sub(r"(\.tar)?(\.t?(gz|bz2?|xz|zst))?$", "", path.name, flags=re.I) + ".tar")
            if plain == path:
                plain = path.with_name(f"unpacked-{path.name}")
            raise DataError(
                f"{path} is compressed as a whole, so each image would take reading it from its start. Unpack it once, "
                f"and give {plain} instead:\n{unpacker} -c {shlex.quote(str(path))} > {shlex.quote(str(plain))}"
            )
    return _Tar(path)


def _walk(folder: Path, above: tuple[Path, ...], nested: bool = True) -> Iterator[str]:
    here = folder.resolve()
    if here in above:  # a link that leads back to a parent
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}. Make it readable, or give folders without it.") from error
    for entry in entries:
        if entry.is_dir():
            if nested:
                yield from _walk(Path(entry.path), (*above, here))
        elif entry.is_file():
            yield Path(entry.path).as_posix()


def _tar_extents(path: Path) -> dict[str, tuple[int, int]]:
    """Return the offset and length of each file's content in a tar."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            extents = {member.name: (member.offset_data, member.size) for member in archive if member.isfile()}
            file.seek(archive.offset)
            end = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{path} is no folder, no zip and no whole uncompressed tar: {error}.") from error
    if end != bytes(tarfile.BLOCKSIZE):  # tarfile takes a damaged header for the end of the archive
        raise DataError(f"{path} is a damaged or incomplete tar: it has no end mark. Download it again.")
    return extents


def _from_anchor(member: str, anchors: Sequence[str]) -> str | None:
    """Return a path from its last anchor folder on, its suffix in small letters; None for files to ignore."""
    parts = member.split("/")
    if "__MACOSX" in parts or parts[-1].startswith("."):  # added by macOS
        return None
    stem, dot, suffix = parts[-1].rpartition(".")
    parts[-1] = stem + dot + suffix.lower() if dot else suffix
    starts = [index for index, part in enumerate(parts[:-1]) if part in anchors]
    return "/".join(parts[starts[-1] :]) if starts else None
