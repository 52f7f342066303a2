"""Grammars of calls: an answer that must call a tool, or one whose calls must be valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice_gateway.grammar import thinking
from sluice_gateway.grammar.lark import Grammar, expression, quoted
from sluice_gateway.grammar.structured import Constraint, embedded
from sluice_gateway.grammar.xml_arguments import glm_arguments, xml_arguments
from sluice_gateway.output.formats import deepseek, glm, kimi, qwen_xml, tagged
from sluice_gateway.output.formats import harmony as gpt_oss
from sluice_gateway.output.formats.reasoning import Opening
from sluice_gateway.output.formats.table import Formats

_NO_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool that a request offers.

    ``strict``: its arguments must follow the schema in whatever it says, or the request is
    refused. Else what the engine cannot enforce of the schema is left to the model.
    """

    name: str
    parameters: Mapping[str, Any] | None = None
    strict: bool = False

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of its arguments, which are always an object."""
        if not self.parameters:
            return _NO_PARAMETERS
        return {**self.parameters, "type": "object"}


Parts = list[str]


@dataclass(frozen=True, slots=True)
class _Style:
    """How a format writes calls: ``before`` them all, one ``call``, ``between``, ``after``."""

    call: Callable[[Grammar, OfferedTool], Parts]
    before: tuple[str, ...] = ()
    between: str = ""
    after: tuple[str, ...] = ()
    trigger: str = ""  # the mark that tells calls from text; "": JSON at the beginning does


def tool_grammar(
    formats: Formats,
    tools: Sequence[OfferedTool],
    tokens: Mapping[str, int],
    *,
    opening: Opening = Opening.OPEN,
    required: bool = True,
    parallel: bool = True,
    otherwise: Constraint | None = None,
) -> str:
    """The grammar of an answer that may call these tools.

    ``tokens``: see lark.mark_tokens. ``required``: the answer is calls and nothing else but
    reasoning; otherwise it may be text, and calls, if there are some, are valid. ``parallel``:
    there may be more than one call. ``otherwise``: what the text must be of an answer that calls
    none; if calls are required it says nothing. Raises ValueError if the model has no format for
    calls.
    """
    if formats.tools is None or not tools:
        raise ValueError("there are no tools, or no format to call them")
    grammar = Grammar(tokens)
    style = _STYLES[formats.tools.name]
    calls = _calls(grammar, style, tools, several=parallel and formats.tools.parallel)
    if formats.tools.name == "harmony":
        said, rest = _text(grammar, otherwise)
        json = otherwise is not None and otherwise.kind == "json"
        final = f"{thinking.harmony_final(grammar, json=json)} {said}"
        return grammar.source(_harmony(grammar, calls, None if required else final)) + rest
    if required:
        first = thinking.before(grammar, formats.reasoning, opening)
        return grammar.source(f"{first} {_trigger(grammar, style)} {calls}")
    if otherwise is None:
        return grammar.source(_optional(grammar, style, calls, formats, opening))
    said, rest = _text(grammar, otherwise)
    first = thinking.before(grammar, formats.reasoning, opening)
    answer = grammar.rule(f"{said} | {_trigger(grammar, style)} {calls}")
    return grammar.source(f"{first} {answer}") + rest


def tells_calls_apart(formats: Formats) -> bool:
    """Whether calls begin with a mark, so that ``otherwise`` may be JSON as well."""
    name = formats.tools.name if formats.tools else ""
    return name == "harmony" or (name in _STYLES and _STYLES[name].trigger != "")


def _text(grammar: Grammar, constraint: Constraint | None) -> tuple[str, str]:
    """See ``embedded``; any text, or none, if nothing is asked for."""
    return embedded(grammar, constraint) if constraint else (f"{grammar.text()}?", "")


def _trigger(grammar: Grammar, style: _Style) -> str:
    """The trigger, which ``_calls`` leaves out."""
    return grammar.mark(style.trigger) if style.trigger else ""


def _calls(grammar: Grammar, style: _Style, tools: Sequence[OfferedTool], *, several: bool) -> str:
    """One call, or several, from behind the first trigger on."""
    in_call = style.trigger != "" and style.trigger not in style.before
    one = grammar.rule(" | ".join(grammar.sequence(*style.call(grammar, tool)) for tool in tools))
    before = style.before[1:] if style.before[:1] == (style.trigger,) else style.before
    parts = [*before, expression(one)]
    if several:
        again = [style.between, style.trigger if in_call else "", expression(one)]
        parts.append(expression(f"({grammar.sequence(*again)})*"))
    return grammar.sequence(*parts, *style.after)


def _optional(
    grammar: Grammar, style: _Style, calls: str, formats: Formats, opening: Opening
) -> str:
    """Text in which a trigger begins calls, with which the answer ends."""
    reasoning = formats.reasoning

    def answer(but_not: str = "") -> str:
        if not style.trigger:
            return grammar.rule(f"{calls} | {grammar.text(_NO_JSON, but_not=but_not)}?")
        to_call = grammar.text_to(style.trigger, but_not=but_not)
        return grammar.rule(f"{grammar.text(but_not=but_not)}? | {to_call} {calls}")

    if reasoning is None or opening is Opening.CLOSED:
        return answer()
    if opening is Opening.INSIDE:
        return f"{thinking.before(grammar, reasoning, opening)} {answer()}"
    # Text that begins as reasoning does must not pass for text: it may speak of calls.
    but_not = "" if grammar.is_token(reasoning.opening) else reasoning.opening
    return f"{thinking.opened(grammar, reasoning)} {answer()} | {answer(but_not)}"


# An answer of text that could not be taken for a call.
_NO_JSON = r"/\s*[^\s{\[](?s:.*)/"


def _harmony(grammar: Grammar, calls: str, final: str | None) -> str:
    """``final``: the message that may be there instead of calls, if one may."""
    analysis = thinking.harmony_analysis(grammar)
    call = f"{thinking.harmony_preamble(grammar)} {calls}"
    if final is None:
        return f"{analysis} {call}"
    return f"{analysis} ({final} | {call})"


def _arguments(grammar: Grammar, tool: OfferedTool) -> str:
    return expression(grammar.json(tool.schema, lenient=not tool.strict))


def _object(key: str, before: str = "", after: str = "") -> Callable[[Grammar, OfferedTool], Parts]:
    def call(grammar: Grammar, tool: OfferedTool) -> Parts:
        head = f'{before}{{"name": {quoted(tool.name)}, "{key}": '
        return [head, _arguments(grammar, tool), "}" + after]

    return call


def _hermes(grammar: Grammar, tool: OfferedTool) -> Parts:
    return [*_object("arguments", "\n", "\n")(grammar, tool), "</tool_call>"]


def _mistral(grammar: Grammar, tool: OfferedTool) -> Parts:
    parts = [tool.name]
    if grammar.is_token(tagged.CALL_ID):
        own_id = f"{grammar.mark(tagged.CALL_ID)} {grammar.terminal('/[a-zA-Z0-9]{9}/')}"
        parts.append(expression(f"({own_id})?"))
    return [*parts, tagged.ARGS, _arguments(grammar, tool)]


def _deepseek_v3(grammar: Grammar, tool: OfferedTool) -> Parts:
    head = ["function", deepseek.SEPARATOR, f"{tool.name}\n```json\n"]
    return [deepseek.CALL_BEGIN, *head, _arguments(grammar, tool), "\n```", deepseek.CALL_END]


def _deepseek_v31(grammar: Grammar, tool: OfferedTool) -> Parts:
    head = [deepseek.CALL_BEGIN, tool.name, deepseek.SEPARATOR]
    return [*head, _arguments(grammar, tool), deepseek.CALL_END]


def _kimi(grammar: Grammar, tool: OfferedTool) -> Parts:
    number = expression(grammar.terminal("/[0-9]{1,3}/"))
    head = [kimi.CALL_BEGIN, f"{kimi.PREFIX}{tool.name}:", number, kimi.ARGUMENTS_BEGIN]
    return [*head, _arguments(grammar, tool), kimi.CALL_END]


def _qwen_xml(closing: str) -> Callable[[Grammar, OfferedTool], Parts]:
    def call(grammar: Grammar, tool: OfferedTool) -> Parts:
        head = f"\n{qwen_xml.FUNCTION_OPEN}{tool.name}>\n"
        body = xml_arguments(grammar, tool.schema, lenient=not tool.strict)
        return [head, *body, f"{qwen_xml.FUNCTION_CLOSE}\n", closing]

    return call


def _glm(grammar: Grammar, tool: OfferedTool) -> Parts:
    body = glm_arguments(grammar, tool.schema, lenient=not tool.strict)
    return [f"{tool.name}\n", *body, glm.TOOL_CLOSE]


def _list(opening: str, closing: str = "") -> _Style:
    """A list in JSON behind a mark."""
    end = ("]", closing) if closing else ("]",)
    return _Style(_object("arguments"), (opening, "["), ", ", end, trigger=opening)


def _harmony_call(grammar: Grammar, tool: OfferedTool) -> Parts:
    head = [gpt_oss.CHANNEL, f"commentary to=functions.{tool.name} ", gpt_oss.CONSTRAIN, "json"]
    return [*head, gpt_oss.MESSAGE, _arguments(grammar, tool)]


_STYLES: Mapping[str, _Style] = {
    "hermes": _Style(_hermes, between="\n", trigger="<tool_call>"),
    "tool_call_list": _list("<|tool_call|>"),
    "phi4_mini": _list("<|tool_call|>", "<|/tool_call|>"),
    "functools": _list("functools"),
    "nemotron": _list("<TOOLCALL>", "</TOOLCALL>"),
    "mistral": _list(tagged.TOOL_CALLS),
    "qwen3_coder": _Style(_qwen_xml(qwen_xml.TOOL_CLOSE), between="\n", trigger=qwen_xml.TOOL_OPEN),
    "seed_oss": _Style(_qwen_xml(qwen_xml.SEED_CLOSE), between="\n", trigger=qwen_xml.SEED_OPEN),
    "glm": _Style(_glm, between="\n", trigger=glm.TOOL_OPEN),
    "kimi_k2": _Style(
        _kimi, (kimi.SECTION_BEGIN,), after=(kimi.SECTION_END,), trigger=kimi.SECTION_BEGIN
    ),
    "llama3": _Style(_object("parameters")),
    "json": _Style(_object("arguments"), between="\n"),
    "mistral_v11": _Style(_mistral, trigger=tagged.TOOL_CALLS),
    "deepseek_v3": _Style(
        _deepseek_v3,
        (deepseek.CALLS_BEGIN,),
        "\n",
        (deepseek.CALLS_END,),
        trigger=deepseek.CALLS_BEGIN,
    ),
    "deepseek_v31": _Style(
        _deepseek_v31,
        (deepseek.CALLS_BEGIN,),
        after=(deepseek.CALLS_END,),
        trigger=deepseek.CALLS_BEGIN,
    ),
    "harmony": _Style(_harmony_call),
}
