"""What llguidance makes of a grammar, with a tokenizer that has the marks as tokens or as text."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import tokenizers
from sluice_gateway.grammar import mark_tokens
from sluice_gateway.output.formats import REASONING_FORMATS, TOOL_FORMATS, Formats

EOS = "<eos>"


def _marks() -> list[str]:
    found = [mark for one in TOOL_FORMATS.values() for mark in one.marks]
    for style in REASONING_FORMATS.values():
        found += Formats(None, style).marks if style.read is None else ()
    return list(dict.fromkeys(found))


@cache
def _tokenizer(special: bool) -> tuple[tokenizers.Tokenizer, Any]:
    llguidance = pytest.importorskip("llguidance")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    loaded = tokenizers.Tokenizer(
        tokenizers.models.BPE({char: place for place, char in enumerate(alphabet)}, [])
    )
    loaded.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    loaded.decoder = tokenizers.decoders.ByteLevel()
    loaded.add_special_tokens([EOS, *(_marks() if special else [])])
    eos = loaded.token_to_id(EOS)
    return loaded, llguidance.LLTokenizer(loaded.to_str(), eos_token=eos)


class Matcher:
    """Asks llguidance."""

    def __init__(self, *, special: bool) -> None:
        self._tokenizer, self._ll = _tokenizer(special)

    def tokens(self, formats: Formats) -> dict[str, int]:
        added = [
            (token_id, token.content, token.special)
            for token_id, token in self._tokenizer.get_added_tokens_decoder().items()
        ]
        return dict(mark_tokens(formats.marks, added))

    def error(self, source: str) -> str:
        from llguidance import LLMatcher

        return str(LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(source), self._ll))

    def accepts(self, source: str, text: str) -> bool:
        """Whether the whole text is in the language of the grammar in Lark's notation."""
        from llguidance import LLMatcher

        return self.accepts_any(LLMatcher.grammar_from_lark(source), text)

    def accepts_any(self, grammar: str, text: str) -> bool:
        from llguidance import LLMatcher

        assert not LLMatcher.validate_grammar(grammar, self._ll), grammar
        ids = self._tokenizer.encode(text).ids
        matcher = LLMatcher(self._ll, grammar)
        return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())


def as_schema(schema: str) -> str:
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_json_schema(json.loads(schema)))
