"""Messages and tools as the text of a chat template.

Calls and reasoning are written as in the Hermes function calling format, see
`loomax.agents.search.loop.chat_codec`, whose prompts are the same tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from loomax.agents.search.grammar.marks import without
from loomax.agents.search.loop.chat_codec import ChatTemplate
from loomax.agents.server.chat_reader import ChatReader
from loomax.agents.server.messages import Message, ToolSpec
from loomax.agents.server.reader import OutputReader

TOOLS = """Functions that you can call, one JSON schema a line:
<tools>
{schemas}
</tools>
A call is a JSON object with the name and the arguments, between <tool_call> and </tool_call>:
<tool_call>
{{"name": "...", "arguments": {{}}}}
</tool_call>"""


@runtime_checkable
class ChatFormat(Protocol):
    """One way to put a chat into text, and to read what the model answers."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end any answer."""
        ...

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """The text before the answer."""
        ...

    def forced(self, tool: str | None) -> str:
        """What an answer begins with that must be a call, of this tool or of any."""
        ...

    def reader(self, tools: Sequence[ToolSpec]) -> OutputReader:
        """A reader for one answer; without tools it reads no calls."""
        ...


@dataclass(frozen=True)
class TemplateFormat:
    """A chat template with calls in Hermes' form."""

    template: ChatTemplate = field(default_factory=ChatTemplate)

    @property
    def stops(self) -> tuple[str, ...]:
        """See `ChatFormat`."""
        return (self.template.end.strip(),)

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """See `ChatFormat`."""
        rest, system = list(messages), []
        while rest and rest[0].role in ("system", "developer"):
            system.append(self._plain(rest.pop(0).content))
        if tools:
            system.append(TOOLS.format(schemas=self._plain("\n".join(map(_schema, tools)))))
        text = "\n\n".join(system)
        begin = f"{self.template.system}{text}{self.template.end}" if system else ""
        return begin + "".join(map(self._message, rest)) + self.template.assistant

    def forced(self, tool: str | None) -> str:
        """See `ChatFormat`."""
        name = "" if tool is None else f'{{"name": {json.dumps(tool)}, "arguments": '
        return f"<tool_call>\n{name}"

    def reader(self, tools: Sequence[ToolSpec]) -> ChatReader:
        """See `ChatFormat`."""
        return ChatReader(calls=bool(tools))

    def _message(self, message: Message) -> str:
        template = self.template
        before = {
            "system": template.system,
            "developer": template.system,
            "user": template.user,
            "assistant": template.assistant,
            "tool": template.tool,
        }[message.role]
        content = self._plain(message.content)
        parts = [content] if content else []
        calls = [self._plain(_call(use.name, use.arguments)) for use in message.calls]
        # Earlier reasoning is not shown again.
        parts += [f"<tool_call>\n{call}\n</tool_call>" for call in calls]
        return before + "\n".join(parts) + template.end

    def _plain(self, text: str) -> str:
        """Text without the template's marks: a document must not speak for somebody else."""
        template = self.template
        marks = [template.system, template.user, template.tool, template.assistant, template.end]
        words = {mark.strip() for mark in marks} | {"<|im_start|>"}
        return without(text, words - {""})


def _schema(tool: ToolSpec) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def _call(name: str, arguments: str) -> str:
    call = {"name": name, "arguments": json.loads(arguments)}
    return json.dumps(call, ensure_ascii=False)
