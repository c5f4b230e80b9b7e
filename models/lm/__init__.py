"""Decoder-decoder language models (YOCO) and the Transformers that they are compared with.

What needs JAX is imported when it is first used, so that configurations need none.
"""

import importlib
from typing import TYPE_CHECKING, Any

from loomax.models.lm import presets
from loomax.models.lm.config import DeltaConfig, LMConfig, MLAConfig, RopeConfig

if TYPE_CHECKING:
    from loomax.models.lm.forward import hidden_states, logits
    from loomax.models.lm.generate import (
        Cache,
        Draft,
        commit,
        decode,
        empty_cache,
        extend,
        prefill,
        verify,
    )
    from loomax.models.lm.modules import (
        YOCO,
        LanguageModel,
        Transformer,
        count,
        create,
        parameters,
        shapes,
    )

_HOMES = {
    "forward": ("hidden_states", "logits"),
    "generate": (
        "Cache",
        "Draft",
        "commit",
        "decode",
        "empty_cache",
        "extend",
        "prefill",
        "verify",
    ),
    "modules": (
        "LanguageModel",
        "Transformer",
        "YOCO",
        "count",
        "create",
        "parameters",
        "shapes",
    ),
}

__all__ = [
    "YOCO",
    "Cache",
    "DeltaConfig",
    "Draft",
    "LMConfig",
    "LanguageModel",
    "MLAConfig",
    "RopeConfig",
    "Transformer",
    "commit",
    "count",
    "create",
    "decode",
    "empty_cache",
    "extend",
    "hidden_states",
    "logits",
    "parameters",
    "prefill",
    "presets",
    "shapes",
    "verify",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
