"""The body of `POST /v1/completions`."""

from loomax.agents.server.asked import (
    Asked,
    check_model,
    make_samples,
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


def read_completion(body: object, served: Served, config: ServerConfig) -> Asked:
    """A checked request.

    Raises:
        ApiError: naming the field that is at fault.
    """
    fields = Fields(body)
    check_model(fields, config)
    prompts = _prompts(fields.take("prompt", ""), served)
    stream, usage = read_stream(fields)
    stops, kind = read_stops(fields), read_kind(fields)
    most = read_most(fields, ("max_tokens",), DEFAULT_TOKENS)
    logprobs = fields.take("logprobs")
    if logprobs is not None and (isinstance(logprobs, bool) or logprobs != 0):
        raise invalid(
            f"logprobs is {logprobs!r}; give 0: the tokens that were sampled have their "
            "log-probability, others are not known",
            "logprobs",
            "unsupported_parameter",
        )
    samples, count = make_samples(fields, config, prompts, most, stops, "prompt")
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


def _prompts(value: object, served: Served) -> list[tuple[int, ...]]:
    """The prompts as token ids: one or several, each text or token ids."""
    several = isinstance(value, list) and value and not isinstance(value[0], int)
    parts = value if isinstance(value, list) and several else [value]
    return [_prompt(part, served) for part in parts]


def _prompt(value: object, served: Served) -> tuple[int, ...]:
    if isinstance(value, str):
        try:
            return (*served.begin, *served.tokens.ids(value))
        except ValueError as error:
            raise invalid(f"prompt: {error}", "prompt", "invalid_value") from None
    ids = value if isinstance(value, list) else []
    if not ids or any(isinstance(token, bool) or not isinstance(token, int) for token in ids):
        raise invalid("prompt must be a string or token ids, or a list of them", "prompt")
    try:
        for token in ids:
            served.tokens.bytes_of(token)
    except (ValueError, IndexError) as error:
        raise invalid(f"prompt: {error}", "prompt", "invalid_value") from None
    return tuple(ids)
