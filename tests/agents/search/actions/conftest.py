"""A tool that does what the test says, in virtual time."""

import asyncio

import pytest

from loomax.agents.search.actions.call import Tool
from loomax.agents.search.actions.config import ToolConfig


class Script:
    """Plays one answer after the other; the last one is repeated.

    An answer is a float (seconds to sleep), an exception, a function of the arguments, or a
    result; in a tuple several happen in order.
    """

    def __init__(self, *answers):
        self.answers, self.calls, self.running, self.cancelled = answers, [], 0, 0

    async def __call__(self, arguments):
        self.calls.append(asyncio.get_running_loop().time())
        answer = self.answers[min(len(self.calls), len(self.answers)) - 1]
        self.running += 1
        try:
            return await self.play(answer, arguments)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def play(self, answer, arguments):
        value = None
        for part in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif isinstance(part, BaseException):
                raise part
            else:
                value = part(arguments) if callable(part) else part
        return value


@pytest.fixture
def script():
    return Script


@pytest.fixture
def tool_of():
    """A tool from a script; keywords are those of its configuration."""

    def make(run, *, name="look", safety="read_only", version=None, check=None, **config):
        given = {"version": version, "check": check}
        given = {key: value for key, value in given.items() if value is not None}
        return Tool(name, run, safety, ToolConfig(**config), **given)

    return make
