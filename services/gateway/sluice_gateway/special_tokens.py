"""A tokenizer's special tokens: those that structure a prompt and are hidden from answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A special token.

    ``normalized``: it is looked for in the text after normalization, so that other spellings
    match it too.
    """

    id: int
    content: str
    normalized: bool


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The special tokens by id, and the named ones by their names (``eos_token``, ...)."""

    by_id: Mapping[int, SpecialToken]
    names: Mapping[str, str]
    ids: frozenset[int]
    unk_id: int | None

    @classmethod
    def of(
        cls,
        loaded: tokenizers.Tokenizer,
        model: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> SpecialTokens:
        """Read them from the tokenizer, its model's description and tokenizer_config.json.

        A token that the config names is special even where tokenizer.json does not say so: it
        is made so in ``loaded``, as transformers does. None is added to the vocabulary.
        """
        names = _names(config)
        _mark_special(loaded, names)
        by_id = {
            token_id: SpecialToken(token_id, token.content, token.normalized)
            for token_id, token in loaded.get_added_tokens_decoder().items()
            if token.special
        }
        unk_id = model.get("unk_id")
        unk = model.get("unk_token") or names.get("unk_token")
        if unk_id is None and unk:
            unk_id = loaded.token_to_id(unk)
        return cls(by_id, names, frozenset(by_id), unk_id)

    @property
    def bos(self) -> str | None:
        """The text of the begin-of-sequence token."""
        return self.names.get("bos_token")

    @property
    def eos(self) -> str | None:
        """The text of the end-of-sequence token."""
        return self.names.get("eos_token")


def _names(config: Mapping[str, Any]) -> dict[str, str]:
    names = {}
    for name in NAMES:
        value = config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str) and content:
            names[name] = content
    return names


def _mark_special(loaded: tokenizers.Tokenizer, names: Mapping[str, str]) -> None:
    added = {token.content: token for token in loaded.get_added_tokens_decoder().values()}
    for content in dict.fromkeys(names.values()):
        token = added.get(content)
        if (token is None or not token.special) and loaded.token_to_id(content) is not None:
            special = tokenizers.AddedToken(
                content,
                lstrip=bool(token and token.lstrip),
                rstrip=bool(token and token.rstrip),
                normalized=False,
                special=True,
            )
            loaded.add_special_tokens([special])
