"""Images of solids on a floor, drawn by the ray caster: eight classes, a function of a seed.

A class is a kind of solid and one of two sizes. Its colour, pose and place, the light's direction,
the solids behind it and the small box before it are random. Drawn once, then kept on disk.
"""

import hashlib
import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import mujoco
import numpy as np
from jaxtyping import UInt8

from loomax.envs.render import RenderScene, render_rgb
from loomax.nas.train.data.scatter import KINDS, Scenes, scatter
from loomax.runtime.compile import cache_folder
from loomax.runtime.files import atomic_write

SIDE = 16
COUNT = 4096
# Of the files on disk: raise it where the images of a seed change.
VERSION = 1
# Images of one call of the renderer.
BLOCK = 256

_GEOMS = "".join(f'<geom type="{kind}" size="1 1 1"/>' for kind in (*KINDS, *KINDS, "box"))
_MODEL = f"""<mujoco><statistic extent="4"/><worldbody>
<camera name="eye" fovy="45"/><geom type="plane" size="0 0 1"/>{_GEOMS}</worldbody></mujoco>"""


class Shapes(NamedTuple):
    """All images, and their classes: kind + 4 x size (0 small, 1 large)."""

    images: UInt8[np.ndarray, "N S S 3"]
    labels: UInt8[np.ndarray, " N"]

    @property
    def fingerprint(self) -> str:
        """Of all pixels: another machine may round a few of them differently."""
        total = hashlib.blake2b(self.images.tobytes(), digest_size=16)
        total.update(self.labels.tobytes())
        return f"shapes-{total.hexdigest()}"


def draw_shapes(seed: int, count: int = COUNT) -> Shapes:
    """Draws `count` images; the first ones do not depend on how many there are."""
    scene = RenderScene.from_mujoco(mujoco.MjModel.from_xml_string(_MODEL), "eye", SIDE, SIDE)

    def draw(scenes: Scenes):
        return render_rgb(
            scene,
            scenes.position,
            scenes.rotation,
            scenes.rgba,
            scenes.eye,
            scenes.view,
            size=scenes.size,
            shadow=True,
        )

    drawn, found = jax.jit(jax.vmap(draw)), []
    for start in range(0, count, BLOCK):
        scenes = scatter(seed, start // BLOCK, BLOCK)
        exposed = np.asarray(drawn(scenes)) * scenes.exposure[:, None, None, None]
        found.append(Shapes(np.clip(exposed, 0, 255).astype(np.uint8), scenes.label))
    images, labels = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return Shapes(images, labels)


@lru_cache
def load_shapes(seed: int = 0, count: int = COUNT) -> Shapes:
    """The images of a seed: read from the cache folder, drawn where they are not there."""
    path = cache_folder("shapes") / f"v{VERSION}-{seed}-{count}.npz"
    kept = _read(path, count)
    if kept is None:
        kept = draw_shapes(seed, count)
        file = io.BytesIO()
        np.savez_compressed(file, **kept._asdict())
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, file.getvalue())
    return kept


def _read(path: Path, count: int) -> Shapes | None:
    """None where there is no whole file."""
    try:
        # From memory: of a file that is cut short, NumPy would leave the handle open.
        with np.load(io.BytesIO(path.read_bytes())) as held:
            found = Shapes(held["images"], held["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found if found.images.shape == (count, SIDE, SIDE, 3) else None
