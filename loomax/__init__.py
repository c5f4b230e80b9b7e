"""Loomax: a JAX framework for foundation models that act."""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "models").is_dir():
    # A checkout without symbolic links keeps the rooms beside this folder.
    __path__.append(str(_HERE.parent))
