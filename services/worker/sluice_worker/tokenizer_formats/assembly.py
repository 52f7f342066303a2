"""From a converted vocabulary to the files of a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tokenizers import AddedToken, Tokenizer, processors

from sluice_worker.tokenizer_formats.config import TokenizerConfig
from sluice_worker.tokenizer_formats.errors import not_convertible
from sluice_worker.tokenizer_formats.exactness import (
    Original,
    require_exact,
    require_special_tokens,
)


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted tokenizer, before it is checked.

    ``added``: its special and added tokens by id. ``names``: the special tokens with names, as
    the format has them. ``begin`` and ``end``: what encoding puts around a text. ``probes``: texts
    in which the original and the result are compared.
    """

    file_name: str
    tokenizer: Tokenizer
    original: Original
    added: Mapping[int, AddedToken]
    names: Mapping[str, str | None]
    probes: Iterable[str]
    begin: Sequence[str] = ()
    end: Sequence[str] = ()
    config: TokenizerConfig = field(kw_only=True)

    def files(self) -> dict[str, bytes]:
        """tokenizer.json and tokenizer_config.json. Raises TokenizerMissing if not exact."""
        self._add_tokens()
        require_exact(self.tokenizer, self.original, self.probes, self.file_name)
        ids = {token.content: token_id for token_id, token in self.added.items() if token.special}
        require_special_tokens(self.tokenizer, ids, self.file_name)
        _surround(self.tokenizer, self.begin, self.end)
        config = json.dumps(self.config.with_names(self.names), ensure_ascii=False, sort_keys=True)
        return {
            "tokenizer.json": self.tokenizer.to_str().encode(),
            "tokenizer_config.json": config.encode(),
        }

    def _add_tokens(self) -> None:
        self.tokenizer.add_tokens([token for _, token in sorted(self.added.items())])
        for token_id, token in self.added.items():
            if self.tokenizer.token_to_id(token.content) != token_id:
                raise not_convertible(
                    self.file_name, f"the id of its token {token.content!r} cannot be kept"
                )
        for text in (*self.config.more_special(), *self.begin, *self.end):
            if self.tokenizer.token_to_id(text) is None:
                raise not_convertible(
                    self.file_name, f"the model's files give no id to the special token {text!r}"
                )


def _surround(tokenizer: Tokenizer, begin: Sequence[str], end: Sequence[str]) -> None:
    """Let encoding put these tokens around a text."""
    if begin or end:
        ids = [(text, tokenizer.token_to_id(text)) for text in dict.fromkeys((*begin, *end))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*begin, "$A", *end], pair=[*begin, "$A", *end, "$B"], special_tokens=ids
        )
