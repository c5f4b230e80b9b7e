"""Encoded images as pixels: every kind is read rightly, or refused by the name of its file. No JAX.

Grey of 16 bits is scaled to 8, what is transparent shows white, a camera's rotation (EXIF) is
undone, inks become colours without a profile, and of several frames the first one counts.
"""

import io
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from loomax.nas.train.data.source import Source
from loomax.runtime.progress import Progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Of one encoded image, and of one decoded: below what Pillow itself warns of.
MOST_BYTES, MOST_PIXELS = 2**27, 2**26
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")


def decode(raw: bytes, where: str) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an encoded image, red, green and blue.

    Raises:
        ValueError: it is no image that is read here, damaged, or too large; `where` is named.
    """
    if len(raw) > MOST_BYTES:
        raise ValueError(f"{where} has {len(raw)} bytes: give images of at most {MOST_BYTES}")
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return _pixels(image)
    except UnidentifiedImageError:  # whose text is an address in memory
        raise ValueError(f"{where} is no image: its first bytes are of no known kind") from None
    # Pillow's readers raise whatever a damaged file leads them to, SyntaxError among it.
    except Exception as error:
        raise ValueError(f"{where} is no image: {str(error) or type(error).__name__}") from None


def check_images(source: Source, workers: int) -> None:
    """Decodes every image once, so that a run does not end on one of them later.

    Raises:
        ValueError: naming the first that cannot be decoded, and how many there are.
    """
    broken: list[ValueError] = []
    with warnings.catch_warnings(), Progress(len(source), "images") as progress:
        # What is too large is refused.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for fault in _faults(source, max(1, workers)):
            broken += [fault] if fault is not None else []
            progress.update(1)
    if len(broken) > 1:
        raise ValueError(f"{broken[0]} (and {len(broken) - 1} others): mend or remove them")
    if broken:
        raise ValueError(f"{broken[0]}: mend or remove it")


def _faults(source: Source, workers: int) -> Iterator[ValueError | None]:
    """What is wrong with each image, in order; few are held at once."""

    def fault(number: int) -> ValueError | None:
        try:
            source[number]
        except ValueError as error:
            return error
        return None

    numbers = iter(range(len(source)))
    with ThreadPoolExecutor(workers) as pool:
        while block := list(islice(numbers, 64 * workers)):
            yield from pool.map(fault, block)


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels: give at most {MOST_PIXELS}")
    mode, kind = image.mode, image.format
    upright = ImageOps.exif_transpose(image)
    # Some versions of Pillow open a PNG of 16 bits as 32.
    if mode in _SIXTEEN or (mode == "I" and kind == "PNG"):
        grey = (np.asarray(upright).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    if mode in _ALPHA or "transparency" in image.info:
        held = np.asarray(upright.convert("RGBA")).astype(np.uint32)
        colour, alpha = held[..., :3], held[..., 3:]
        return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if mode not in _PLAIN:
        raise ValueError(f"pixels of the kind {mode!r} have no known range: save 8 bits a channel")
    return np.asarray(upright.convert("RGB"))
