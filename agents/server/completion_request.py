"""The body of `POST /v1/completions`."""

from loomax.agents.search.json_text import shown
from loomax.agents.server.asked import (
    Asked,
    check_length,
    check_model,
    encode,
    make_samples,
    read_count,
    read_kind,
    read_most,
    read_stops,
    read_stream,
)
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import invalid
from loomax.agents.server.fields import Fields
from loomax.agents.server.served import Served

# OpenAI's default for this endpoint.
DEFAULT_TOKENS = 16
NO_PROMPT = "prompt must be a string or token ids, or a list of them"


def read_completion(body: object, served: Served, config: ServerConfig) -> Asked:
    """A checked request.

    Raises:
        ApiError: naming the field that is at fault.
    """
    fields = Fields(body)
    check_model(fields, config)
    texts = _several(fields.take("prompt", ""))
    count = read_count(fields, config, len(texts))
    stream, usage = read_stream(fields)
    stops, kind = read_stops(fields), read_kind(fields)
    most = read_most(fields, ("max_tokens",), DEFAULT_TOKENS)
    logprobs = fields.take("logprobs")
    if logprobs is not None and (isinstance(logprobs, bool) or logprobs != 0):
        raise invalid(
            f"logprobs is {shown(logprobs)}; give 0: the tokens that were sampled have their "
            "log-probability, others are not known",
            "logprobs",
            "unsupported_parameter",
        )
    prompts = [_prompt(text, served, config) for text in texts]
    samples = make_samples(fields, config, prompts, count, most, stops, "prompt")
    fields.close()
    return Asked(
        samples=samples,
        count=count,
        stops=stops,
        kind=kind,
        stream=stream,
        usage=usage,
        logprobs=logprobs is not None,
    )


def _several(value: object) -> list[object]:
    """The prompts: one or several, each text or token ids."""
    several = isinstance(value, list) and value and not isinstance(value[0], int)
    return value if isinstance(value, list) and several else [value]


def _prompt(value: object, served: Served, config: ServerConfig) -> tuple[int, ...]:
    if isinstance(value, str):
        return encode(value, served, config, "prompt")
    if not isinstance(value, list) or not value:
        raise invalid(NO_PROMPT, "prompt")
    # Before each id is looked at.
    check_length(len(value), config.context, "prompt")
    if any(isinstance(token, bool) or not isinstance(token, int) for token in value):
        raise invalid(NO_PROMPT, "prompt")
    for token in value:
        try:
            served.tokens.bytes_of(token)
        except (ValueError, IndexError) as error:
            raise invalid(f"prompt: {error}", "prompt", "invalid_value") from None
    return tuple(value)
