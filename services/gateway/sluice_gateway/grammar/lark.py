"""Writes grammars in Lark's notation as llguidance reads it.

llguidance's grammars are of bytes, but its special tokens are none: text cannot match them, and
they are written by id, ``<[151657]>``. So a mark of a format is either, as the model's tokenizer
has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: One space after separators, as models are trained on, or none. No other whitespace: a model
#: that is not sure of itself could go on with it for ever.
COMPACT: Mapping[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
}

TEXT = "/(?s:.*)/"
SPACES = r"/[ \n]{1,4}/"


def mark_tokens(marks: Iterable[str], added: Iterable[tuple[int, str, bool]]) -> Mapping[str, int]:
    """Those of the marks that are special tokens to llguidance, with their ids.

    ``added``: the tokenizer's added tokens, each as id, text, and whether it is special. For
    llguidance all are special that are so, and all that are written in angle brackets.
    """
    wanted = set(marks)
    return {
        text: token_id
        for token_id, text, special in added
        if text in wanted and (special or (text[:1] == "<" and text[-1:] == ">"))
    }


class Grammar:
    """Rules, put together to one grammar. Each is added once, under a name of ours."""

    __slots__ = ("_names", "_rules", "_tokens")

    def __init__(self, tokens: Mapping[str, int]) -> None:
        """``tokens``: see mark_tokens."""
        self._tokens = tokens
        self._names: dict[str, str] = {}
        self._rules: list[str] = []

    def source(self, start: str) -> str:
        """The grammar whose start is that expression."""
        return "\n".join([f"start: {start}", *self._rules]) + "\n"

    def rule(self, body: str, *, options: str = "") -> str:
        """The name of a rule."""
        return self._add(f"{options}: {body}", "sluice_")

    def terminal(self, pattern: str) -> str:
        """The name of a regular expression, which is written as Lark has it."""
        return self._add(f": {pattern}", "SLUICE_")

    def json(self, schema: Mapping[str, Any], *, lenient: bool = False) -> str:
        """The name of a rule for JSON of a schema. ``lenient``: as far as it is understood."""
        options = {**COMPACT, "lenient": True} if lenient else COMPACT
        return self.rule(f"%json {json.dumps({**schema, 'x-guidance': options})}")

    def is_token(self, mark: str) -> bool:
        """Whether a mark is one special token."""
        return mark in self._tokens

    def mark(self, mark: str) -> str:
        """A mark of a format."""
        return f"<[{self._tokens[mark]}]>" if mark in self._tokens else quoted(mark)

    def text_to(self, mark: str, *, but_not: str = "") -> str:
        """Any text up to a mark, and the mark. ``but_not``: what it must not begin with."""
        text = self.text(but_not=but_not)
        if mark in self._tokens:
            return f"{text}? {self.mark(mark)}"
        return self.rule(text, options=f"[suffix={quoted(mark)}]")

    def text(self, pattern: str = TEXT, *, but_not: str = "") -> str:
        """Any text of a pattern, by default any at all. ``but_not``: see ``text_to``."""
        if not but_not:
            return self.terminal(pattern)
        return self.terminal(f"{pattern} & ~/{_escaped(but_not)}(?s:.*)/")

    def sequence(self, *parts: str) -> str:
        """Marks and text, one after the other: what is no mark is text as it is.

        A part that begins with NUL is an expression of its own (see ``expression``).
        """
        items: list[str] = []
        text = ""
        for part in parts:
            if part.startswith("\0") or part in self._tokens:
                if text:
                    items.append(quoted(text))
                items.append(part[1:] if part.startswith("\0") else self.mark(part))
                text = ""
            else:
                text += part
        if text:
            items.append(quoted(text))
        return " ".join(items)

    def _add(self, rest: str, prefix: str) -> str:
        key = prefix + rest
        if key not in self._names:
            self._names[key] = f"{prefix}{len(self._names)}"
            self._rules.append(self._names[key] + rest)
        return self._names[key]


def expression(text: str) -> str:
    """Marks an expression as such among the parts of a sequence."""
    return "\0" + text


def quoted(text: str) -> str:
    """The text as a string of Lark."""
    return json.dumps(text, ensure_ascii=False)


def regex(pattern: str) -> str:
    """A regular expression between slashes: those in it are escaped, line ends too."""
    pieces = re.findall(r"\\.|[^\\]|\\$", pattern, re.DOTALL)
    escapes = {"/": r"\/", "\n": r"\n", "\r": r"\r", "\\\n": r"\n"}
    return f"/{''.join(escapes.get(piece, piece) for piece in pieces)}/"


def _escaped(text: str) -> str:
    return re.escape(text).replace("/", r"\/")
