"""The grammar of arguments that are written as XML, one element for each parameter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sluice_gateway.grammar.lark import Grammar, expression, quoted
from sluice_gateway.output.formats.qwen_xml import PARAMETER_CLOSE, PARAMETER_OPEN

# What the schemas of parameters may refer to.
_SHARED = ("$defs", "definitions")


def xml_arguments(grammar: Grammar, schema: Mapping[str, Any], *, lenient: bool) -> list[str]:
    """The parts of a sequence: the parameters in the schema's order, those not required optional.

    A schema that has no list of properties allows any parameters.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return [expression(f"{_any_parameter(grammar)}*")]
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    shared = {key: schema[key] for key in _SHARED if key in schema}
    parts = []
    for name, one in properties.items():
        head = f"{PARAMETER_OPEN}{name}>\n"
        value = _value(grammar, one, shared, lenient=lenient)
        parameter = f'{quoted(head)} {value} "\\n"'
        parts.append(expression(parameter if name in needed else f"({parameter})?"))
    return parts


def _value(grammar: Grammar, schema: Any, shared: Mapping[str, Any], *, lenient: bool) -> str:
    """The value and the mark that ends it."""
    if not isinstance(schema, Mapping):  # true: whatever it may be
        return grammar.text_to(PARAMETER_CLOSE)
    options = schema.get("enum")
    if isinstance(options, list) and options:
        texts = [one if isinstance(one, str) else json.dumps(one) for one in options]
        return f"({' | '.join(quoted(text) for text in texts)}) {_close()}"
    if schema.get("type") == "string":
        return grammar.text_to(PARAMETER_CLOSE)
    # The root's definitions are where "#/$defs/..." looks for them.
    return f"{grammar.json({**shared, **schema}, lenient=lenient)} {_close()}"


def _close() -> str:
    return quoted(f"\n{PARAMETER_CLOSE}")


def _any_parameter(grammar: Grammar) -> str:
    name = grammar.terminal(r"/[^>\n]{1,64}/")
    value = grammar.text_to(PARAMETER_CLOSE)
    return grammar.rule(f'{quoted(PARAMETER_OPEN)} {name} ">\\n" {value} "\\n"')
