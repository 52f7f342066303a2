from __future__ import annotations

from sluice_gateway.grammar.lark import Grammar, mark_tokens, quoted, regex


def test_marks_are_tokens_where_llguidance_takes_them_for_special() -> None:
    added = [
        (7, "<tool_call>", False),  # in angle brackets
        (8, "[ARGS]", True),
        (9, "[TOOL_CALLS]", False),
        (10, "<other>", True),
    ]
    marks = ["<tool_call>", "[ARGS]", "[TOOL_CALLS]", "</tool_call>"]
    assert mark_tokens(marks, added) == {"<tool_call>": 7, "[ARGS]": 8}


def test_a_rule_is_written_once() -> None:
    grammar = Grammar({})
    assert grammar.rule('"a"') == grammar.rule('"a"')
    assert grammar.text() == grammar.text()
    assert grammar.source("x").count("\n") == 3


def test_text_between_marks_is_one_string() -> None:
    grammar = Grammar({"<a>": 5})
    assert grammar.sequence("x", "<a>", "y", "<b>", "z") == '"x" <[5]> "y<b>z"'


def test_texts_are_quoted() -> None:
    assert quoted('a"\n\\é') == '"a\\"\\n\\\\é"'
    assert regex("a/b\\/\nc") == r"/a\/b\/\nc/"
    assert regex("\\") == "/\\/"
