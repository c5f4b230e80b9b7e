"""Videos on a machine without a display, a GPU or a system ffmpeg."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from loomax.envs import video
from loomax.envs.render.notice import say_once


def clip(frames, height=32, width=48):
    """Each frame a flat colour of its own."""
    shades = np.arange(frames)[:, None] * [20, 10, 5] + 30
    return np.broadcast_to(
        shades[:, None, None].astype(np.uint8), (frames, height, width, 3)
    ).copy()


def decode(path):
    """Frames [T, H, W, 3] and frames a second, straight from ffmpeg."""
    command = [video.find_ffmpeg(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    about = re.search(r"Video: .*, (\d+)x(\d+).*, ([\d.]+) fps", done.stderr.decode())
    width, height = int(about[1]), int(about[2])
    pixels = np.frombuffer(done.stdout, np.uint8)
    return pixels.reshape(-1, height, width, 3), float(about[3])


def test_every_frame_comes_back(tmp_path):
    frames = clip(7)
    path = video.write_video(tmp_path / "deep" / "run.mp4", frames, fps=10)
    assert path == tmp_path / "deep" / "run.mp4"
    back, fps = decode(path)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames.astype(int)).mean() < 6
    assert fps == pytest.approx(10)
    assert [p.name for p in path.parent.iterdir()] == ["run.mp4"]


def test_odd_sides_are_padded(tmp_path):
    path = video.write_video(tmp_path / "odd.mp4", clip(3, 31, 33))
    assert decode(path)[0].shape == (3, 32, 34, 3)


def test_without_ffmpeg_a_gif_is_written_and_said_once(tmp_path, monkeypatch, capsys):
    say_once.cache_clear()
    monkeypatch.setattr(video, "find_ffmpeg", lambda: None)
    frames = clip(5)
    paths = [video.write_video(tmp_path / f"{i}.mp4", frames) for i in range(2)]
    assert [p.name for p in paths] == ["0.gif", "1.gif"]
    assert capsys.readouterr().err.count("No ffmpeg here") == 1
    with Image.open(paths[0]) as image:
        assert image.n_frames == 5 and image.size == (48, 32)
        image.seek(4)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frames[4])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.gif", "1.gif"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = video.write_video(tmp_path / "run.mp4", clip(2))
    before = path.read_bytes()
    monkeypatch.setattr(video, "find_ffmpeg", lambda: sys.executable)
    with pytest.raises(RuntimeError, match="exited with"):
        video.write_video(path, clip(3))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
    ],
)
def test_bad_frames(tmp_path, frames):
    with pytest.raises(ValueError, match=r"need uint8 \[T, H, W, 3\]"):
        video.write_video(tmp_path / "bad.mp4", frames)
    assert not list(tmp_path.iterdir())


def test_bad_fps(tmp_path):
    with pytest.raises(ValueError, match="fps=0"):
        video.write_video(tmp_path / "bad.mp4", clip(2), fps=0)


def test_side_by_side_enlarges_holds_and_labels():
    left, right = clip(2, 16, 16), clip(5, 64, 32)
    both = video.side_by_side(left, right, ("before", "after"), height=64)
    strip, gap = 24, 4
    assert both.shape == (5, 64 + strip, 64 + gap + 32, 3)
    np.testing.assert_array_equal(both[1, strip:, :64], left[1].repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(both[4, strip:, :64], both[1, strip:, :64])
    np.testing.assert_array_equal(both[3, strip:, 68:], right[3])
    assert (both[:, :strip, :64] > 128).any() and (both[:, :strip, 68:] > 128).any()
    blank = video.side_by_side(left, right, height=64)
    assert not blank[:, :strip, :64].any()
    assert (blank[:, :strip] != both[:, :strip]).any()


def test_a_caption_stands_above_both():
    left, right = np.zeros((2, 2, 8, 8, 3), np.uint8)
    plain = video.side_by_side(left, right, ("a", "b"), height=8)
    told = video.side_by_side(left, right, ("a", "b"), height=8, caption="chosen")
    extra = told.shape[1] - plain.shape[1]
    assert extra == 24 and told[:, :extra].max() > 200
    np.testing.assert_array_equal(told[:, extra:], plain)
