"""A searcher of the invented world behind an endpoint: its words as text. Imports no JAX."""

from dataclasses import replace

from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.codec import TextCodec, Words
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.world.vocabulary import OBSERVATIONS

# No gold solution has more than 260 tokens, 46 of them in one turn, and 5 searches.
LIMITS = LoopConfig(steps=7, faults=1, context=512, turn=64, draft=8, observation=96)
# Lessons show the one document that was asked for.
DOCUMENTS = 1


def spoken_codec(words: Words) -> TextCodec:
    """What is added to a text begins with the space that its words are told apart by."""
    return TextCodec(words, opening=" <search>", closing=" </information>")


def spoken_grammar() -> SearchR1Grammar:
    """Observations in words of the vocabulary, see `spoken_codec`."""
    return SearchR1Grammar(replace(OBSERVATIONS, before=" <information>", invalid=" invalid"))
