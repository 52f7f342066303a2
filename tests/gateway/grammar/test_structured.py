"""What a request says of its answer's form, with reasoning before it and without."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sluice_gateway.grammar import Constraint, structured_output
from sluice_gateway.output.formats import REASONING_FORMATS, Formats, Opening

from tests.gateway.grammar.matcher import Matcher, as_schema

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
STARTS = 'start: "go " start2\nstart2: /start/ | "start" // start'
#: A constraint, texts that fit it, and texts that do not.
CASES: list[tuple[Constraint, list[str], list[str]]] = [
    (Constraint("json", SCHEMA), ['{"a": 1, "b": "x"}', '{"a":1,"b":"y"}'], ['{"a": 1}', "x"]),
    (Constraint("json", {"type": "object"}), ['{"z": [1, null]}', "{}"], ["[]", '"{}"', "{"]),
    (Constraint("regex", r"[a-c]{2}/\d+\n?"), ["ab/1", "cc/12\n"], ["ab", "a/1", "ab/1x"]),
    (Constraint("choice", ["yes", 'n"o', "né"]), ["yes", 'n"o', "né"], ["", "ye", "maybe"]),
    (Constraint("grammar", STARTS), ["go start"], ["go", "start"]),
]
EACH = pytest.mark.parametrize(
    ("constraint", "good", "bad"), CASES, ids=["schema", "object", "regex", "choice", "grammar"]
)
STYLES = [
    ("think", "<think>\nI say <b>.\n</think>\n\n"),
    ("mistral", "[THINK]Hm.[/THINK]"),
]


@EACH
def test_without_reasoning_each_constraint_has_its_own_field(
    constraint: Constraint, good: list[str], bad: list[str]
) -> None:
    for style, opening in ((None, Opening.OPEN), (REASONING_FORMATS["think"], Opening.CLOSED)):
        made = structured_output(constraint, style, opening=opening)
        field = made.WhichOneof("constraint")
        assert field is not None
        if field == "json_schema":
            matcher = Matcher(special=True)
            schema = as_schema(made.json_schema)
            assert all(matcher.accepts_any(schema, text) for text in good)
            assert not any(matcher.accepts_any(schema, text) for text in bad)
        elif field == "choices":
            assert list(made.choices.choices) == constraint.value
        else:
            assert getattr(made, field) == constraint.value


@pytest.mark.parametrize("special", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize(("name", "thought"), STYLES)
@EACH
def test_a_model_may_reason_first(
    constraint: Constraint, good: list[str], bad: list[str], name: str, thought: str, special: bool
) -> None:
    style, matcher = REASONING_FORMATS[name], Matcher(special=special)
    tokens = matcher.tokens(Formats(None, style))

    def source(opening: Opening) -> str:
        return structured_output(constraint, style, tokens, opening=opening).grammar

    for text in good:
        assert matcher.accepts(source(Opening.OPEN), thought + text)
        assert matcher.accepts(source(Opening.OPEN), text)
        rest = thought.removeprefix(style.opening)
        assert matcher.accepts(source(Opening.INSIDE), rest + text)
        assert not matcher.accepts(source(Opening.INSIDE), text)
    for text in bad:
        assert not matcher.accepts(source(Opening.OPEN), thought + text)
        assert not matcher.accepts(source(Opening.OPEN), text)
        assert not matcher.accepts(source(Opening.INSIDE), thought + text)


@EACH
def test_harmony_answers_in_its_final_channel(
    constraint: Constraint, good: list[str], bad: list[str]
) -> None:
    style, matcher = REASONING_FORMATS["harmony"], Matcher(special=True)
    tokens = matcher.tokens(Formats(None, style))
    made = structured_output(constraint, style, tokens)
    thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    kind = " <|constrain|>json" if constraint.kind == "json" else ""
    final = f"<|channel|>final{kind}<|message|>"
    for text in good:
        assert matcher.accepts(made.grammar, thought + final + text)
        assert matcher.accepts(made.grammar, final + text)
    for text in bad:
        assert not matcher.accepts(made.grammar, final + text)


def test_a_lenient_schema_leaves_to_the_model_what_cannot_be_enforced() -> None:
    odd: dict[str, Any] = {"type": "string", "format": "odd"}
    matcher = Matcher(special=True)
    loose = structured_output(Constraint("json", odd, lenient=True))
    assert matcher.accepts_any(as_schema(loose.json_schema), '"x"')
    assert json.loads(loose.json_schema)["type"] == "string"
    strict = structured_output(Constraint("json", odd), REASONING_FORMATS["think"])
    assert "odd" in matcher.error(strict.grammar)


def test_a_schema_cannot_set_our_options() -> None:
    schema = {"type": "object", "x-guidance": {"whitespace_flexible": True}}
    made = structured_output(Constraint("json", schema))
    assert not json.loads(made.json_schema)["x-guidance"]["whitespace_flexible"]
