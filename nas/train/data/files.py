"""Images in files: folders by class, tar shards, ArrayRecord. Indexed once, read by number."""

import hashlib
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import grain

from loomax.nas.train.data.decode import MOST_BYTES, SUFFIXES, decode
from loomax.nas.train.data.example import parse_example
from loomax.nas.train.data.source import Item

# Images that are not read here; other members of a shard (.json, .txt) are about images.
OTHERS = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".ppm", ".exr", ".dng")


# Of a shard's .cls file; no data set has more classes.
MOST_CLASSES = 2**20
# Left by file browsers.
_LITTER = ("thumbs.db", "desktop.ini")


class Folder:
    """`path/CLASS/IMAGE`; classes are numbered by their names' order. Hidden names do not count.

    Raises:
        ValueError: a class is empty, a file is no image, or an image lies beside the classes.
    """

    def __init__(self, path: str):
        root = _existing(path)
        entries = sorted(entry for entry in root.iterdir() if not _hidden(entry))
        names = [entry.name for entry in entries if entry.is_dir()]
        loose = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
        if loose and names:
            raise ValueError(f"{loose[0]} lies beside the folders of classes: move it into one")
        self._files = [
            (file, label) for label, name in enumerate(names) for file in _images(root / name)
        ]
        if not self._files:
            raise ValueError(f"{root} has no images: give a folder with one sub-folder a class")
        self.classes = len(names)
        self.fingerprint = _digest(str(file.relative_to(root)) for file, _ in self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Item:
        file, label = self._files[number]
        try:
            with open(file, "rb") as opened:
                raw = opened.read(MOST_BYTES + 1)
        except OSError as error:
            raise ValueError(f"cannot read {file}: {error.strerror}") from None
        return Item(decode(raw, str(file)), label)


def _images(folder: Path) -> list[Path]:
    """Files of a class, those in folders of it too.

    Raises:
        ValueError: there are none, or one is no image.
    """
    found = []
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        if file.is_dir() or any(part.startswith(".") for part in inner.parts):
            continue
        if file.name.lower() in _LITTER:
            continue
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{file} is no image of {', '.join(SUFFIXES)}: convert or remove it")
        found.append(file)
    if not found:
        raise ValueError(f"the class {folder} has no images: remove the folder, or add some")
    return found


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


class TarShards:
    """`path/*.tar` with KEY.jpg (or .png, .webp) and KEY.cls, the class as a number, each."""

    def __init__(self, path: str):
        self._items: list[tuple[Path, int, int, int]] = []
        shards = sorted(_existing(path).glob("*.tar"))
        for shard in shards:
            self._items += _shard_items(shard)
        if not self._items:
            raise ValueError(f"{path} has no images in .tar files: give KEY.jpg and KEY.cls each")
        self.classes = 1 + max(label for *_, label in self._items)
        self.fingerprint = _digest(f"{shard.name} {rest}" for shard, *rest in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> Item:
        shard, start, size, label = self._items[number]
        with open(shard, "rb") as file:
            raw = os.pread(file.fileno(), size, start)
        return Item(decode(raw, f"{shard} at byte {start}"), label)


def _shard_items(shard: Path) -> list[tuple[Path, int, int, int]]:
    """(shard, first byte, bytes, class) of every image."""
    images, labels = {}, {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, suffix = os.path.splitext(member.name)
                if not member.isfile() or os.path.basename(key).startswith("."):
                    continue
                if suffix == ".cls":
                    labels[key] = _label(archive.extractfile(member).read(32))
                elif suffix.lower() in SUFFIXES:
                    if key in images:
                        raise ValueError(f"{key} has two images")
                    images[key] = (member.offset_data, member.size)
                elif suffix.lower() in OTHERS:
                    raise ValueError(f"{member.name} is no image of {', '.join(SUFFIXES)}")
    except (tarfile.TarError, ValueError) as error:
        raise ValueError(f"{shard} is no whole tar file with classes as numbers: {error}") from None
    lonely = sorted(images.keys() ^ labels.keys())
    if lonely:
        raise ValueError(f"{shard}: {lonely[0]} has no image, or no class: give both")
    return [(shard, *where, labels[key]) for key, where in images.items()]


def _label(raw: bytes) -> int:
    label = int(raw)
    if not 0 <= label < MOST_CLASSES:
        raise ValueError(f"class {label}: give 0 to {MOST_CLASSES - 1}")
    return label


class Records:
    """`path/*.array_record*` of tf.train.Example with `image` (encoded) and `label`.

    How many classes there are is not read from them: that would take all of the files.
    """

    def __init__(self, path: str, classes: int):
        if classes < 1:
            raise ValueError(f"data.classes is {classes}: give the number of classes")
        root = _existing(path)
        files = sorted(str(file) for file in root.glob("*.array_record*"))
        if not files:
            raise ValueError(f"{root} has no .array_record files")
        try:
            self._source = grain.sources.ArrayRecordDataSource(files)
        except RuntimeError as error:
            raise ValueError(f"{root}: not whole ArrayRecord files: {error}") from None
        self._where = str(root)
        self.classes = classes
        self.fingerprint = _digest([f"{Path(f).name} {os.path.getsize(f)}" for f in files])

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> Item:
        where = f"{self._where}: record {number}"
        held = parse_example(self._source[number], where)
        for name in ("image", "label"):
            if not held.get(name):
                raise ValueError(f"{where} has no {name!r} (it has: {', '.join(held)})")
        label = held["label"][0]
        if not 0 <= label < self.classes:
            raise ValueError(f"{where}: label is {label}: give 0 to {self.classes - 1}")
        return Item(decode(held["image"][0], where), label)


def _existing(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"data.path {root} is no folder")
    return root


def _digest(lines: Iterable[str]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for line in lines:
        total.update(line.encode() + b"\n")
    return total.hexdigest()
