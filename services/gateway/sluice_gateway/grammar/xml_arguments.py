"""The grammar of arguments that are written as XML, with elements for each parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sluice_gateway.grammar.lark import Grammar, expression, quoted
from sluice_gateway.output.formats import glm
from sluice_gateway.output.formats.qwen_xml import PARAMETER_CLOSE, PARAMETER_OPEN

# What the schemas of parameters may refer to.
_SHARED = ("$defs", "definitions")


def xml_arguments(grammar: Grammar, schema: Mapping[str, Any], *, lenient: bool) -> list[str]:
    """The parts of a sequence, with the name of each parameter in its element's tag.

    They are in the schema's order, those not required optional. A schema that has no list of
    properties allows any parameters.
    """

    def parameter(head: str, value: str) -> str:
        return f'{quoted(PARAMETER_OPEN)} {head} ">\\n" {value} "\\n"'

    if (properties := _properties(schema)) is None:
        name = grammar.terminal(r"/[^>\n]{1,64}/")
        value = grammar.text_to(PARAMETER_CLOSE)
        return [expression(f"{grammar.rule(parameter(name, value))}*")]
    close = quoted(f"\n{PARAMETER_CLOSE}")
    return [
        expression(one if needed else f"({one})?")
        for name, needed, value in _values(
            grammar, schema, properties, PARAMETER_CLOSE, close, lenient=lenient
        )
        for one in [parameter(quoted(name), value)]
    ]


def glm_arguments(grammar: Grammar, schema: Mapping[str, Any], *, lenient: bool) -> list[str]:
    """The same with an element for the name of each parameter and one for its value."""

    def parameter(name: str, value: str) -> str:
        opening = f"{grammar.mark(glm.KEY_OPEN)} {name} {grammar.mark(glm.KEY_CLOSE)}"
        return f'{opening} "\\n" {grammar.mark(glm.VALUE_OPEN)} {value} "\\n"'

    if (properties := _properties(schema)) is None:
        name = grammar.terminal(r"/[^<\n]{1,64}/")
        value = grammar.text_to(glm.VALUE_CLOSE)
        return [expression(f"{grammar.rule(parameter(name, value))}*")]
    close = grammar.mark(glm.VALUE_CLOSE)
    return [
        expression(one if needed else f"({one})?")
        for name, needed, value in _values(
            grammar, schema, properties, glm.VALUE_CLOSE, close, lenient=lenient
        )
        for one in [parameter(quoted(name), value)]
    ]


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else None


def _values(
    grammar: Grammar,
    schema: Mapping[str, Any],
    properties: Mapping[str, Any],
    mark: str,
    close: str,
    *,
    lenient: bool,
) -> Iterator[tuple[str, bool, str]]:
    """Each parameter's name, whether it must be there, and its value with the mark after it.

    ``close``: the expression for the end of a value that is not just any text.
    """
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    # The root's definitions are where "#/$defs/..." looks for them.
    shared = {key: schema[key] for key in _SHARED if key in schema}
    for name, one in properties.items():
        if not isinstance(one, Mapping):  # true: whatever it may be
            value = grammar.text_to(mark)
        elif isinstance(options := one.get("enum"), list) and options:
            texts = [each if isinstance(each, str) else json.dumps(each) for each in options]
            value = f"({' | '.join(quoted(text) for text in texts)}) {close}"
        elif one.get("type") == "string":
            value = grammar.text_to(mark)
        else:
            value = f"{grammar.json({**shared, **one}, lenient=lenient)} {close}"
        yield name, name in needed, value
