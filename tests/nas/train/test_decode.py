"""Encoded images as pixels, against NumPy; and what is refused, by the name of its file."""

import io
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from loomax.nas.train.config import DataConfig
from loomax.nas.train.data.decode import MOST_PIXELS, check_images, decode
from loomax.nas.train.data.source import open_source


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name, payload):
    crc = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", crc)


def png(width, height, depth, colour, rows):
    """A PNG written by hand, without Pillow."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_ramp_of_sixteen_bits_becomes_one_of_eight():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    raw = png(64, 1, 16, 0, b"\0" + ramp.astype(">u2").tobytes())
    wanted = np.rint(ramp / 257).astype(np.uint8)
    found = decode(raw, "ramp")
    assert found.shape == (1, 64, 3)
    for channel in range(3):
        np.testing.assert_array_equal(found[0, :, channel], wanted)
    tiff = encoded(Image.fromarray(ramp[None]), "TIFF")
    np.testing.assert_array_equal(decode(tiff, "ramp")[0, :, 0], wanted)


def test_colours_of_sixteen_bits_are_within_one_step():
    values = np.random.default_rng(0).integers(0, 65536, (1, 8, 3)).astype(np.uint16)
    raw = png(8, 1, 16, 2, b"\0" + values.astype(">u2").tobytes())
    np.testing.assert_allclose(decode(raw, "x").astype(int), values / 257, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_shows_white(mode):
    channels = len(mode)
    held = np.random.default_rng(1).integers(0, 256, (4, 5, channels)).astype(np.uint8)
    held[0, :, -1], held[1, :, -1] = 0, 255
    found = decode(encoded(Image.fromarray(held, mode)), "x")
    alpha = held[..., -1:] / 255
    wanted = np.broadcast_to(held[..., :-1] * alpha + 255 * (1 - alpha), found.shape)
    assert np.abs(found - wanted).max() <= 0.5 and (found[0] == 255).all()


def test_a_palette_with_alpha():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([200, 0, 0, 0, 100, 0, 0, 0, 50])
    found = decode(encoded(image, transparency=bytes([255, 0, 51])), "x")
    np.testing.assert_array_equal(found, [[[200, 0, 0], [255, 255, 255], [204, 204, 214]]])


def test_inks():
    held = np.random.default_rng(2).integers(0, 256, (3, 4, 4)).astype(np.uint8)
    found = decode(encoded(Image.fromarray(held, "CMYK"), "TIFF"), "x")
    ink = held.astype(float)
    wanted = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda x: np.rot90(x, 1)),
    ],
)
def test_a_cameras_rotation_is_undone(orientation, turned):
    held = np.random.default_rng(3).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(Image.fromarray(held), exif=exif)
    np.testing.assert_array_equal(decode(raw, "x"), turned(held))


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PNG"])
def test_kinds_without_loss(kind):
    held = np.zeros((4, 6, 3), np.uint8)
    held[1:3, 2:5] = (10, 200, 30)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(held), kind), "x"), held)


NOISE = np.random.default_rng(4).integers(0, 256, (8, 8, 3)).astype(np.uint8)
PICTURE = encoded(Image.fromarray(NOISE))
BOMB = png(100_000, 100_000, 8, 0, b"\0")
LARGE = png(10_000, MOST_PIXELS // 10_000 + 1, 8, 0, b"\0")
FLOATS = encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no image",
        PICTURE[:40],
        PICTURE[:-40],
        # A byte of the header, which its check sum covers; and of the pixels.
        PICTURE[:17] + b"\xff" + PICTURE[18:],
        PICTURE[:45] + b"\xff\xff" + PICTURE[47:],
        BOMB,
        LARGE,
        FLOATS,
        encoded(Image.fromarray(np.full((8, 8, 3), 7, np.uint8)), "JPEG")[:-40],
    ],
)
def test_what_is_no_image_is_named(raw):
    with pytest.raises(ValueError, match="^folder/x.png is no image: ."):
        decode(raw, "folder/x.png")


def test_any_flipped_byte_is_an_image_or_a_value_error():
    for place in range(len(PICTURE)):
        try:
            decode(PICTURE[:place] + bytes([PICTURE[place] ^ 0x55]) + PICTURE[place + 1 :], "x")
        except ValueError as error:
            assert str(error).startswith("x is no image")


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"{index}.png").write_bytes(PICTURE)
    return tmp_path


def opened(folder, source="folder"):
    return open_source(DataConfig(source=source, path=str(folder)))


def test_hidden_names_do_not_count(folder):
    before = opened(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.png").write_bytes(PICTURE)
    (folder / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    after = opened(folder)
    assert (len(after), after.classes) == (6, 2)
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("empty/", "empty has no images: remove the folder"),
        ("cat/x.heic", "x.heic is no image of .jpg"),
        ("cat/notes.txt", "notes.txt is no image of .jpg"),
        ("x.png", "x.png lies beside the folders of classes"),
    ],
)
def test_what_would_be_left_out_is_named(folder, path, message):
    if path.endswith("/"):
        (folder / path).mkdir()
    else:
        (folder / path).write_bytes(PICTURE)
    with pytest.raises(ValueError, match=message):
        opened(folder)


def test_all_are_checked_first(folder):
    check_images(opened(folder), 2)
    (folder / "dog" / "2.png").write_bytes(PICTURE[:-40])
    with pytest.raises(ValueError, match=r"dog/2.png is no image: .*: mend or remove it"):
        check_images(opened(folder), 2)
    (folder / "cat" / "0.png").write_bytes(BOMB)
    (folder / "cat" / "1.png").unlink()
    (folder / "cat" / "1.png").symlink_to("gone")
    with pytest.raises(ValueError, match=r"cat/0.png is no image: .* \(and 2 others\)"):
        check_images(opened(folder), 0)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", PICTURE), ("a.cls", b"-1")], "class -1: give 0 to"),
        ([("a.png", PICTURE), ("a.cls", b"9" * 30)], "give 0 to"),
        ([("a.png", PICTURE), ("a.jpg", PICTURE), ("a.cls", b"1")], "a has two images"),
        ([("a.avif", PICTURE), ("a.cls", b"1")], "a.avif is no image of"),
        ([("a.png", PICTURE), ("a.cls", b"1"), ("._a.png", b"x")], None),
    ],
)
def test_shards(tmp_path, members, message):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, held in members:
            info = tarfile.TarInfo(name)
            info.size = len(held)
            archive.addfile(info, io.BytesIO(held))
    if message is None:
        assert len(opened(tmp_path, "tar")) == 1
        return
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, "tar")


def test_what_is_no_image_is_told_without_addresses():
    with pytest.raises(
        ValueError, match="^x.gif is no image: its first bytes are of no known kind$"
    ):
        decode(b"hi\n", "x.gif")
