"""From what a request says of the form of its answer to the contract's StructuredOutput."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.grammar import thinking
from sluice_gateway.grammar.lark import COMPACT, Grammar, quoted, regex
from sluice_gateway.output.formats.reasoning import Opening, ReasoningFormat

#: What OpenAI's json_object asks for.
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}

# The words of a grammar, between which there is nothing to rename.
_LARK_WORDS = re.compile(
    r'"(?:\\.|[^"\\\n])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])+/[a-z]*|(?P<start>\bstart\b)'
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text of an answer must be.

    ``value``: a JSON Schema, a regular expression, strings to choose from, or a grammar.
    ``lenient``: of a JSON Schema, what the engine cannot enforce is left to the model.
    """

    kind: Literal["json", "regex", "choice", "grammar"]
    value: Any
    lenient: bool = False


def structured_output(
    constraint: Constraint,
    style: ReasoningFormat | None = None,
    tokens: Mapping[str, int] | None = None,
    *,
    opening: Opening = Opening.OPEN,
) -> pb.StructuredOutput:
    """The constraint as the contract has it.

    A model that may reason first may still do so: then it is a grammar, of which ``tokens``
    names the special tokens (see lark.mark_tokens).
    """
    if not thinking.thinks(style, opening):
        return _plain(constraint)
    grammar = Grammar(tokens or {})
    first = thinking.before(grammar, style, opening)
    if style is not None and style.read is not None:
        first += " " + thinking.harmony_final(grammar, json=constraint.kind == "json")
    value, rest = embedded(grammar, constraint)
    return pb.StructuredOutput(grammar=grammar.source(f"{first} {value}") + rest)


def _plain(constraint: Constraint) -> pb.StructuredOutput:
    if constraint.kind == "json":
        return pb.StructuredOutput(json_schema=json.dumps(_with_options(constraint)))
    if constraint.kind == "regex":
        return pb.StructuredOutput(regex=constraint.value)
    if constraint.kind == "choice":
        return pb.StructuredOutput(choices=pb.Choices(choices=constraint.value))
    return pb.StructuredOutput(grammar=constraint.value)


def embedded(grammar: Grammar, constraint: Constraint) -> tuple[str, str]:
    """The constraint as an expression, and rules that it needs besides ``grammar``'s own."""
    if constraint.kind == "json":
        return grammar.json(constraint.value, lenient=constraint.lenient), ""
    if constraint.kind == "regex":
        return grammar.terminal(regex(constraint.value)), ""
    if constraint.kind == "choice":
        return _one_of(grammar, constraint.value), ""
    return "sluice_start", _renamed(constraint.value)


def _one_of(grammar: Grammar, choices: Sequence[str]) -> str:
    return grammar.rule(" | ".join(map(quoted, choices)))


def _renamed(source: str) -> str:
    """A grammar whose start has another name, so that it can be part of ours."""
    return _LARK_WORDS.sub(lambda match: "sluice_start" if match["start"] else match[0], source)


def _with_options(constraint: Constraint) -> dict[str, Any]:
    options = {**COMPACT, "lenient": True} if constraint.lenient else dict(COMPACT)
    return {**constraint.value, "x-guidance": options}
