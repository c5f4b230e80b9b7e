"""What a request asks for, whichever of the two endpoints it came to."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.engine_protocol import Kind, Sampling
from loomax.agents.search.json_text import shown
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, invalid
from loomax.agents.server.fields import Fields
from loomax.agents.server.generation import Sample
from loomax.agents.server.messages import ToolSpec
from loomax.agents.server.served import Served

MOST_STOPS = 16
MOST_CHARACTERS = 256
CONTEXT = "context_length_exceeded"
# Tokens that a request may name, whatever the context.
MOST_TOKENS = 2**53
# Engines seed 32-bit generators; equal seeds stay equal.
SEEDS = 2**31


@dataclass(frozen=True)
class Asked:
    """A checked request.

    Args:
        samples: `count` in a row for each prompt.
        stops: strings that end an answer.
        usage: whether a stream ends with the numbers of tokens.
        chat: whether the answer has parts: reasoning, calls and content.
        tools: that the answer may call; none read no calls.
        forced: text that the prompt ends with and that belongs to the answer.
        single: whether the answer ends with its first call.
    """

    samples: tuple[Sample, ...]
    count: int
    stops: tuple[str, ...]
    kind: Kind
    stream: bool
    usage: bool
    logprobs: bool
    chat: bool = False
    tools: tuple[ToolSpec, ...] = ()
    forced: str = ""
    single: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, each counted once."""
        return sum(len(sample.prompt) for sample in self.samples[:: self.count])


def check_model(fields: Fields, config: ServerConfig) -> None:
    """Refuses a model that is not served.

    Raises:
        ApiError: 404.
    """
    name = fields.text("model")
    if name != config.model:
        message = f"there is no model {shown(name)}; this server has {config.model!r}"
        raise ApiError(404, message, param="model", code="model_not_found")


def read_stream(fields: Fields) -> tuple[bool, bool]:
    """Whether to stream, and whether the stream ends with the usage."""
    stream = fields.flag("stream")
    options: Mapping[str, Any] = fields.nested("stream_options")
    if options and not stream:
        raise invalid("stream_options are for stream: true", "stream_options")
    inner = Fields(options)
    usage = inner.flag("include_usage")
    inner.close()
    return stream, usage


def read_stops(fields: Fields) -> tuple[str, ...]:
    """The stop strings."""
    value = fields.take("stop", [])
    stops = [value] if isinstance(value, str) else value
    good = isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops)
    if not good or len(stops) > MOST_STOPS or any(len(stop) > MOST_CHARACTERS for stop in stops):
        raise invalid(
            f"stop must be a string or up to {MOST_STOPS} strings of 1 to {MOST_CHARACTERS} "
            "characters",
            "stop",
            "invalid_value",
        )
    return tuple(stops)


def read_most(fields: Fields, names: Sequence[str], default: int | None) -> int | None:
    """Tokens at most; the names are those of one limit."""
    given = {name: fields.whole(name, None, 1, MOST_TOKENS) for name in names}
    values = {value for value in given.values() if value is not None}
    if len(values) > 1:
        shown = " and ".join(f"{name} {value}" for name, value in given.items())
        raise invalid(f"{shown} contradict each other; give one of them", names[0])
    return values.pop() if values else default


def read_kind(fields: Fields) -> Kind:
    """The class in the queue, by vLLM's `priority`: lower goes first, and 0 is as usual."""
    priority = fields.whole("priority", 0, -(2**31), 2**31 - 1)
    if priority < 0:
        return "draft"
    return "background" if priority else "main"


def read_count(fields: Fields, config: ServerConfig, prompts: int = 1) -> int:
    """Answers of each prompt; read before any prompt is looked at.

    Raises:
        ApiError: together they are too many.
    """
    count = fields.whole("n", 1, 1, config.samples)
    if count * prompts > config.samples:
        raise invalid(
            f"{prompts} prompts with n {count} are {count * prompts} answers; at most "
            f"{config.samples} may be asked for at once",
            "n",
        )
    return count


def encode(text: str, served: Served, config: ServerConfig, source: str) -> tuple[int, ...]:
    """A prompt as token ids.

    Args:
        source: the field that it comes from.

    Raises:
        ApiError: there are no tokens for it, or it cannot be within the context: that is told
            before anything is encoded.
    """
    check_size(len(text), served, config, source)
    try:
        return (*served.begin, *served.tokens.ids(text))
    except ValueError as error:
        raise invalid(f"{source}: {error}", source, "invalid_value") from None


def check_size(letters: int, served: Served, config: ServerConfig, source: str) -> None:
    """Refuses a text of so many letters if it can only be longer than the context.

    Raises:
        ApiError: naming how many tokens it has at least.
    """
    longest = served.tokens.longest
    if longest and letters > longest * config.context:
        raise invalid(
            f"the prompt has {letters} characters, which are at least {-(-letters // longest)} "
            f"tokens; the context of {config.context} leaves room for at most "
            f"{config.context - 1}",
            source,
            CONTEXT,
        )


def make_samples(
    fields: Fields,
    config: ServerConfig,
    prompts: Sequence[Sequence[int]],
    count: int,
    most: int | None,
    stops: tuple[str, ...],
    source: str,
) -> tuple[Sample, ...]:
    """The samples of a request, `count` of each prompt in a row.

    With a seed, each prompt gets what it would get alone. Without, every prompt has a seed of its
    own, so that equal prompts differ.

    Args:
        most: tokens of an answer at most; None takes what the context leaves.
        source: the field that prompts come from.

    Raises:
        ApiError: a prompt is too long.
    """
    temperature = fields.number("temperature", 1.0, 0.0, 2.0)
    given = fields.whole("seed", None, -(2**63), 2**63 - 1)
    samples = []
    for prompt in prompts:
        room = _room(len(prompt), most, config.context, source)
        seed = secrets.randbelow(SEEDS) if given is None else given % SEEDS
        for number in range(count):
            sampling = Sampling(room, temperature, stops, seed, number)
            samples.append(Sample(tuple(prompt), sampling))
    return tuple(samples)


def check_length(prompt: int, context: int, source: str) -> None:
    """Refuses a prompt of so many tokens if nothing can follow it.

    Raises:
        ApiError: the context does not hold it.
    """
    if prompt < 1:
        raise invalid("the prompt is empty", source)
    if prompt >= context:
        raise invalid(
            f"the prompt has {prompt} tokens; the context of {context} leaves room for at most "
            f"{context - 1}",
            source,
            CONTEXT,
        )


def _room(prompt: int, most: int | None, context: int, source: str) -> int:
    """Tokens that an answer may have.

    Raises:
        ApiError: the context does not hold them.
    """
    check_length(prompt, context, source)
    room = context - prompt
    if most is not None and most > room:
        raise invalid(
            f"the prompt has {prompt} tokens and max_tokens is {most}: {prompt + most} are over "
            f"the context of {context}; shorten the prompt or give max_tokens of at most {room}",
            "max_tokens",
            CONTEXT,
        )
    return room if most is None else most
