"""A conversation as the text of a prompt, which nothing that a client wrote can restructure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice_gateway.conversation import Dialect, calls_of, template_messages
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.model import ServedModel
from sluice_gateway.output.formats import id_of_nine, numbered_ids
from sluice_gateway.output.formats.reasoning import REASONING
from sluice_gateway.schema.chat import Conversation
from sluice_gateway.schema.messages import Message
from sluice_gateway.shield import Shield, map_strings, strings_of

#: How templates call the switch of models that may be told not to think.
_SWITCHES: Mapping[str, Any] = {"enable_thinking": False, "thinking": False}


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text. With a shield it has private characters where a client wrote special tokens."""

    text: str
    shield: Shield | None


class Renderer:
    """Renders conversations for one model."""

    def __init__(self, model: ServedModel, allowed: frozenset[str]) -> None:
        """``allowed``: the template's variables that clients may set."""
        self._model = model
        self._allowed = allowed

    def render(self, request: Conversation, check: Callable[[int, str], None]) -> Rendered:
        """The conversation's text. ``check`` is asked first about its characters.

        Raises InvalidRequest, or what ``check`` does.
        """
        template = self._model.template
        messages, tools, variables = self._given(request)
        strings = [*strings_of(messages), *strings_of(tools), *strings_of(variables)]
        check(sum(map(len, strings)), "messages")
        special_text = self._model.tokenizer.special_text
        covers = any(special_text(text) for text in strings)
        shield = Shield(strings, special_text)
        if covers:
            messages = map_strings(messages, shield.cover)
            tools = map_strings(tools, shield.cover)
            variables = map_strings(variables, shield.cover)
        end = shield.take()
        if request.continue_final_message:
            _mark_end(messages[-1], end)
        text = template.render(
            messages,
            add_generation_prompt=request.opens_answer,
            tools=tools,
            variables=variables,
        )
        if request.continue_final_message:
            text = _cut(text, end)
        return Rendered(text, shield if covers else None)

    def _given(self, request: Conversation) -> tuple[Any, Any, Any]:
        """What the template is given of the client's: messages, tools and variables."""
        template, formats = self._model.template, self._model.formats
        with_tools = request.tool_mode != "none"
        dialect = Dialect(
            content=template.format(tools=with_tools),
            knows_developer=template.mentions("developer", tools=with_tools),
            call_id=_ids(formats.tools.ids if formats.tools else "call", request.messages),
            reasoning=formats.reasoning.key if formats.reasoning else REASONING,
        )
        messages = template_messages(request.messages, dialect)
        tools = [tool.to_json() for tool in request.tools or ()] if with_tools else None
        return messages, tools, self._variables(request)

    def _variables(self, request: Conversation) -> dict[str, Any]:
        variables = dict(request.chat_template_kwargs or {})
        for name in variables:
            if name not in self._allowed:
                known = ", ".join(sorted(self._allowed)) or "none"
                raise InvalidRequest(
                    f"'chat_template_kwargs.{name}' may not be set. Allowed: {known}.",
                    param=f"chat_template_kwargs.{name}",
                    code="unsupported_parameter",
                )
        effort = request.reasoning_effort
        if effort is None:
            return variables
        switches = _SWITCHES if effort == "none" else {}
        return {"reasoning_effort": effort, **switches, **variables}


def _ids(kind: str, messages: Sequence[Message]) -> Callable[[str], str]:
    """What a template takes for the id of a call."""
    if kind == "nine":
        return id_of_nine
    if kind == "numbered":
        known = numbered_ids(calls_of(messages))
        return lambda call_id: known.get(call_id, call_id)
    return str


def _mark_end(message: dict[str, Any], end: str) -> None:
    # The space tells later whether the template cut whitespace off the end.
    content = message["content"]
    if isinstance(content, list):
        content[-1]["text"] += end + " "
    else:
        message["content"] = content + end + " "


def _cut(text: str, end: str) -> str:
    """The text up to where the final message's content ended, as Hugging Face cuts it."""
    before, mark, after = text.rpartition(end)
    if not mark:
        raise InvalidRequest(
            "The model's chat template does not show the final message, so that it cannot be"
            " continued.",
            param="continue_final_message",
        )
    return before if after.startswith(" ") else before.rstrip()
