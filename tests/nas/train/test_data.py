"""Where images come from: what is held, how it is split, and what is refused."""

import io
import tarfile

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from loomax.nas.train.config import DataConfig
from loomax.nas.train.data.batches import Batches, gather
from loomax.nas.train.data.digits import load_digits
from loomax.nas.train.data.example import parse_example
from loomax.nas.train.data.source import DigitSource, cut_out, open_source, shifted, whole
from loomax.nas.train.data.split import split_images


def colour(value, side=6):
    return np.full((side, side + 2, 3), value, np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def field(number, payload):
    """A length-delimited field of a protocol buffer message."""
    assert len(payload) < 1 << 14
    size = (
        bytes([len(payload)])
        if len(payload) < 128
        else bytes([len(payload) & 127 | 128, len(payload) >> 7])
    )
    return bytes([number << 3 | 2]) + size + payload


def example(image, label):
    bytes_list = field(1, field(1, image))
    # 300 as an unpacked number, others packed.
    whole_list = field(3, b"\x08\xac\x02" if label == 300 else field(1, bytes([label])))
    floats = field(2, field(1, b"\0\0\x80?"))
    entries = [("image", bytes_list), ("label", whole_list), ("weight", floats)]
    features = b"".join(
        field(1, field(1, name.encode()) + field(2, held)) for name, held in entries
    )
    return field(1, features)


def test_digits_are_those_of_scikit_learn():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8, 1) and labels[:10].tolist() == list(range(10))
    # The first row of pixels of the first digit is 0 0 5 13 9 1 0 0, of 16.
    assert images[0, 0, :, 0].tolist() == [0, 0, 79, 207, 143, 15, 0, 0]
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_parts_are_apart_and_fixed():
    split = split_images(1797, DataConfig())
    again = split_images(1797, DataConfig())
    np.testing.assert_array_equal(split.test, again.test)
    assert [len(part) for part in split] == [1079, 359, 359]
    assert sorted(np.concatenate(split)) == list(range(1797))
    other = split_images(1797, DataConfig(split_seed=1))
    assert not np.array_equal(split.test, other.test)
    with pytest.raises(ValueError, match="data.test is 0.001, which is none of 100 images"):
        split_images(100, DataConfig(test=0.001))
    with pytest.raises(ValueError, match="data.batch is 64, but only 60 of 100 images are left"):
        split_images(100, DataConfig())


def test_batches_go_on_where_they_stood():
    source, config = DigitSource(), DataConfig(batch=16, workers=0)
    numbers = split_images(len(source), config).train[:40]
    given = {"side": 8, "seed": 3}
    batches = Batches(source, numbers, config, **given)
    first = [next(batches) for _ in range(2)]
    state = batches.state()
    rest = [next(batches) for _ in range(3)]
    again = Batches(source, numbers, config, **given)
    again.restore(state)
    for expected, got in zip(rest, again, strict=False):
        np.testing.assert_array_equal(got.images, expected.images)
        np.testing.assert_array_equal(got.labels, expected.labels)
    assert first[0].images.shape == (16, 8, 8, 1) and first[0].images.dtype == np.uint8
    other = next(Batches(source, numbers, config, side=8, seed=4))
    assert not np.array_equal(other.images, first[0].images)


def test_augmentation():
    rng = np.random.default_rng(0)
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    moved = {tuple(shifted(image, 1, rng)[4, 4].tolist()) for _ in range(200)}
    assert moved == {(4 * 8 + 4 + dy * 8 + dx,) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    np.testing.assert_array_equal(shifted(image, 0, rng), image)
    assert whole(image, 8) is image
    photo = np.tile(np.arange(40, dtype=np.uint8)[None, :, None], (20, 1, 3))
    parts = [cut_out(photo, 10, rng) for _ in range(50)]
    assert all(part.shape == (10, 10, 3) for part in parts)
    rising = [bool(part[0, -1, 0] >= part[0, 0, 0]) for part in parts]
    assert 10 < sum(rising) < 40
    assert whole(photo, 10)[0, 0, 0] > 10 and whole(photo, 10)[0, -1, 0] < 30


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The same four images as a folder, a tar shard and an ArrayRecord file."""
    root = tmp_path_factory.mktemp("images")
    values = {0: (10, 20), 1: (30, 40)}
    with tarfile.open(root / "a.tar", "w") as shard:
        for label, colours in values.items():
            folder = root / "folder" / f"class{label}"
            folder.mkdir(parents=True)
            for value in colours:
                (folder / f"{value}.png").write_bytes(png(colour(value)))
                members = [("png", png(colour(value))), ("cls", str(label).encode())]
                for suffix, raw in members:
                    info = tarfile.TarInfo(f"x/{value}.{suffix}")
                    info.size = len(raw)
                    shard.addfile(info, io.BytesIO(raw))
    writer = ArrayRecordWriter(str(root / "a.array_record"), "group_size:1")
    for label, colours in values.items():
        for value in colours:
            writer.write(example(png(colour(value)), label))
    writer.close()
    return root


@pytest.mark.parametrize(
    ("source", "path", "classes"), [("folder", "folder", 0), ("tar", "", 0), ("arrayrecord", "", 2)]
)
def test_files_hold_the_same_images(stored, source, path, classes):
    held = open_source(DataConfig(source, str(stored / path), classes))
    assert len(held) == 4 and held.classes == 2
    assert [(item.image[0, 0, 0], item.label) for item in (held[n] for n in range(4))] == [
        (10, 0),
        (20, 0),
        (30, 1),
        (40, 1),
    ]
    images, labels = gather(held, np.array([3, 0]), 4)
    assert images.shape == (2, 4, 4, 3) and images[:, 0, 0, 0].tolist() == [40, 10]
    assert labels.tolist() == [1, 0]


def test_what_cannot_be_read_is_named(stored, tmp_path):
    def opened(source, path, classes=2):
        return open_source(DataConfig(source, str(path), classes))

    for source, line in [
        ("folder", "has no images"),
        ("tar", "has no images in .tar"),
        ("arrayrecord", "has no .array_record files"),
    ]:
        with pytest.raises(ValueError, match=line):
            opened(source, tmp_path)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        opened("folder", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="data.classes is 0: give the number"):
        opened("arrayrecord", stored, 0)
    with pytest.raises(ValueError, match="record 2: label is 1: give 0 to 0"):
        opened("arrayrecord", stored, 1)[2]
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match="bad.tar is no whole tar file"):
        opened("tar", tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="x.png is no image"):
        opened("folder", tmp_path)[0]


def test_examples_are_read_without_tensorflow():
    assert parse_example(example(b"abc", 300), "it") == {"image": [b"abc"], "label": [300]}
    with pytest.raises(ValueError, match="it is no tf.train.Example"):
        parse_example(example(b"abc", 1)[:-3], "it")
