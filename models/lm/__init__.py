"""Decoder-decoder language models (YOCO) and the Transformers that they are compared with."""

from loomax.models.lm import presets
from loomax.models.lm.config import LMConfig, MLAConfig, RopeConfig
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
    LanguageModel,
    Transformer,
    YOCO,
    count,
    create,
    parameters,
    shapes,
)

__all__ = [
    "Cache",
    "Draft",
    "LMConfig",
    "LanguageModel",
    "MLAConfig",
    "RopeConfig",
    "Transformer",
    "YOCO",
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
