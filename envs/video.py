"""Video files without a display, a system ffmpeg or a GPU."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loomax.envs.render.notice import say_once

_GAP = 4


def find_ffmpeg() -> str | None:
    """The ffmpeg that comes with imageio-ffmpeg, else one on the PATH, else None."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def write_video(path: str | Path, frames: np.ndarray, fps: float = 20.0) -> Path:
    """Writes u8 frames [T, H, W, 3] to `path` (H.264) and returns the path, whole or not at all.

    Sides are padded to even lengths, as the codec demands. Without ffmpeg an animated GIF is
    written beside it instead (`.gif`; its path is returned), and stderr says so once.

    Raises:
        ValueError: frames of another shape or type, none at all, or fps not above 0.
        RuntimeError: ffmpeg failed; its last words are in the message.
    """
    path, frames = Path(path), _checked(frames)
    if not fps > 0:
        raise ValueError(f"fps={fps} must be above 0")
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg = find_ffmpeg()
    if ffmpeg is None and path.suffix != ".gif":
        say_once("No ffmpeg here (pip install imageio-ffmpeg); videos become animated GIFs.")
        path = path.with_suffix(".gif")
    with _whole(path) as temporary:
        if path.suffix == ".gif":
            _write_gif(temporary, frames, fps)
        else:
            _write_with_ffmpeg(temporary, frames, fps, str(ffmpeg))
    return path


def side_by_side(
    left: np.ndarray,
    right: np.ndarray,
    labels: tuple[str, str] = ("", ""),
    height: int = 256,
    caption: str = "",
) -> np.ndarray:
    """Two videos [T, H, W, 3] u8 next to each other, as one at least `height` pixels high.

    Small frames are enlarged by whole factors, the shorter video holds its last frame, and the
    labels stand in a strip above; so does the caption, above both. Returns u8 [max T, H', W', 3].
    """
    videos = [_enlarge(_checked(video), height) for video in (left, right)]
    length = max(len(video) for video in videos)
    tall = max(video.shape[1] for video in videos)
    columns = []
    for video, label in zip(videos, labels, strict=True):
        hold = ((0, length - len(video)), (0, 0), (0, 0), (0, 0))
        video = np.pad(video, hold, mode="edge")
        video = np.pad(video, ((0, 0), (0, tall - video.shape[1]), (0, 0), (0, 0)))
        strip = np.broadcast_to(_strip(label, video.shape[2]), (length, *_strip_shape(video)))
        columns.append(np.concatenate([strip, video], axis=1))
    gap = np.full((length, columns[0].shape[1], _GAP, 3), 255, np.uint8)
    both = np.concatenate([columns[0], gap, columns[1]], axis=2)
    if not caption:
        return both
    strip = np.broadcast_to(_strip(caption, both.shape[2]), (length, *_strip_shape(both)))
    return np.concatenate([strip, both], axis=1)


_STRIP = 24


def _strip_shape(video: np.ndarray) -> tuple[int, int, int]:
    return _STRIP, video.shape[2], 3


def _strip(label: str, width: int) -> np.ndarray:
    """White text on black, u8 [24, width, 3]."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, _STRIP))
    ImageDraw.Draw(image).text((4, 6), label, fill=(255, 255, 255))
    return np.asarray(image)


def _enlarge(video: np.ndarray, height: int) -> np.ndarray:
    factor = max(1, -(-height // video.shape[1]))
    return video.repeat(factor, axis=1).repeat(factor, axis=2)


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames are {frames.dtype}{list(frames.shape)}; need uint8 [T, H, W, 3], none empty"
        )
    return frames


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary path that takes the name `path` once it is written, and is gone otherwise."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_with_ffmpeg(path: Path, frames: np.ndarray, fps: float, ffmpeg: str) -> None:
    odd_height, odd_width = (side % 2 for side in frames.shape[1:3])
    frames = np.pad(frames, ((0, 0), (0, odd_height), (0, odd_width), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    codec = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [ffmpeg, "-y", "-loglevel", "error", *raw, "-i", "-", *codec, str(path)]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"{ffmpeg} exited with {done.returncode}: {' '.join(words[-2:])}")


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    from PIL import Image

    # GIF counts time in hundredths of a second, and viewers slow down below two.
    duration = max(20, round(100 / fps) * 10)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0)
