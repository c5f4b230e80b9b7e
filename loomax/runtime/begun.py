"""The configuration that a run keeps: compared first, written when nothing can be refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

ConfigT = TypeVar("ConfigT")

FILE = "config.json"


class KeptConfig(Generic[ConfigT]):
    """`config.json` of a run that begins, or goes on.

    A refused start leaves the file byte for byte as it was, or absent, so that the right command
    still goes on with the run.

    Args:
        write: (path, config), whole or not at all.
        lead: False on all processes but the first, which write nothing.

    Raises:
        ValueError: the run was begun with another seed.
    """

    def __init__(
        self,
        run_dir: Path,
        config: ConfigT,
        write: Callable[[Path, ConfigT], None],
        *,
        lead: bool = True,
    ):
        self._path, self._config = run_dir / FILE, config
        self._write, self._due = write, lead
        check_seed(run_dir, getattr(config, "seed", None))

    @property
    def new(self) -> bool:
        """Whether the run has none yet."""
        return not self._path.exists()

    def accept(self) -> None:
        """Writes it, once: every check has been passed."""
        if self._due:
            self._due = False
            self._write(self._path, self._config)


def check_seed(run_dir: Path, seed: int | None) -> None:
    """Refuses to go on with a run under another seed: all that it draws follows from that.

    Raises:
        ValueError: naming both seeds.
    """
    try:
        held = json.loads((run_dir / FILE).read_bytes())["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if held != seed:
        raise ValueError(
            f"{run_dir} was begun with seed {held}, not {seed}: leave --seed out, or give another "
            "--name"
        )
