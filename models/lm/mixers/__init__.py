"""The token mixers by name."""

from loomax.models.lm.mixers import (
    attention,
    gated_deltanet,
    gated_retention,
    mla,
    sliding_window,
)
from loomax.models.lm.mixers.base import Mixer

MIXERS: dict[str, Mixer] = {
    "gated_retention": gated_retention.MIXER,
    "sliding_window": sliding_window.MIXER,
    "gated_deltanet": gated_deltanet.MIXER,
    "attention": attention.MIXER,
    "mla": mla.MIXER,
}
