"""Fields of a request's JSON, each read once; what nobody read is refused by its name."""

from collections.abc import Mapping
from typing import Any

from loomax.agents.search.json_text import shown
from loomax.agents.server.errors import ApiError, invalid

# What is not supported, and the values that ask for nothing. null always asks for nothing.
# Names of OpenAI's API first, then those that vLLM, SGLang and llama.cpp take beside them.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "top_p": (1,),
    "add_generation_prompt": (True,),
    "add_special_tokens": (True,),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "detokenize": (True,),
    "documents": ([],),
    "early_stopping": (False,),
    "ignore_eos": (False,),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "mirostat": (0,),
    "prompt_logprobs": (0,),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "return_tokens_as_token_ids": (False,),
    "separate_reasoning": (True,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "tfs_z": (1,),
    "top_a": (0,),
    "top_k": (-1, 0),
    "typical_p": (1,),
    "use_beam_search": (False,),
    # Of stream_options.
    "continuous_usage_stats": (False,),
    "include_obfuscation": (False,),
}
# Who asks changes nothing about the answer, nor does where it might be kept.
LABELS = (
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
)


class Fields:
    """The fields of one request.

    Raises:
        ApiError: the body is no JSON object.
    """

    def __init__(self, body: object):
        if not isinstance(body, dict):
            raise invalid("the body must be a JSON object")
        self._left: dict[str, Any] = {k: v for k, v in body.items() if v is not None}

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field, whatever it is."""
        return self._left.pop(name, default)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.take(name, default)
        if not isinstance(value, str):
            raise _wrong(name, value, "a string")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number in a range."""
        value = self.take(name, default)
        # Before any conversion: a whole number may be too large for a float. NaN is in no range.
        if not _is_number(value) or not least <= value <= most:
            raise _wrong(name, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def whole(self, name: str, default: Any, least: int, most: int | None = None) -> Any:
        """A whole number in a range, or the default."""
        value = self.take(name)
        if value is None:
            return default
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not good or (most is not None and value > most):
            upper = "" if most is None else f", at most {most}"
            raise _wrong(name, value, f"a whole number, at least {least}{upper}")
        return value

    def nested(self, name: str) -> Mapping[str, Any]:
        """An object; empty if it is not there."""
        value = self.take(name, {})
        if not isinstance(value, dict):
            raise _wrong(name, value, "an object")
        return value

    def close(self) -> None:
        """Refuses what is left, unless it asks for nothing.

        Raises:
            ApiError: naming the first such field.
        """
        for name, value in self._left.items():
            if name in LABELS or any(_same(value, idle) for idle in NEUTRAL.get(name, ())):
                continue
            if name in NEUTRAL:
                idle = " or ".join(map(repr, NEUTRAL[name]))
                raise invalid(
                    f"{name} {shown(value)} is not supported; leave it out or give {idle}",
                    name,
                    "unsupported_parameter",
                )
            raise invalid(f"there is no parameter {shown(name)}", name, "unknown_parameter")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(value: Any, idle: Any) -> bool:
    """Equal, and not only as False equals 0."""
    return value == idle and isinstance(value, bool) == isinstance(idle, bool)


def _wrong(name: str, value: object, wanted: str) -> ApiError:
    return invalid(f"{name} is {shown(value)}; it must be {wanted}", name, "invalid_value")
