"""What a model's small files say of its tokenizer: names, added tokens, the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from sluice_worker.tokenizer_formats.errors import REMEDY, TokenizerMissing

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MORE = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """tokenizer_config.json, with what older models have in files of their own beside it.

    ``added``: the tokens that were added to the original vocabulary, by id.
    """

    values: Mapping[str, Any]
    added: Mapping[int, AddedToken]
    model_type: str

    @classmethod
    def read(cls, model_dir: Path) -> TokenizerConfig:
        """Read a model directory. Raises TokenizerMissing for a damaged file."""
        values = {
            **_object(model_dir / "special_tokens_map.json"),
            **_object(model_dir / "tokenizer_config.json"),
        }
        model_type = str(_object(model_dir / "config.json").get("model_type", ""))
        ids = _object(model_dir / "added_tokens.json")
        return cls(values, _added_tokens(values, ids), model_type)

    @property
    def tokenizer_class(self) -> str:
        """The class that the model's author used, without ``Fast``; empty if it is not said."""
        return str(self.values.get("tokenizer_class") or "").removesuffix("Fast")

    def flag(self, name: str, *, default: bool) -> bool:
        """A switch; null is the default."""
        value = self.values.get(name)
        return default if value is None else bool(value)

    def content(self, name: str) -> str | None:
        """The text of a named special token."""
        return token_text(self.values.get(name))

    def with_names(self, names: Mapping[str, str | None]) -> dict[str, Any]:
        """The values as one file, with ``names`` where the author names no token."""
        missing = {name: text for name, text in names.items() if text and name not in self.values}
        return {**self.values, **missing}

    def more_special(self) -> list[str]:
        """The texts of the special tokens that have no names."""
        more = [token for name in _MORE for token in _listed(self.values.get(name))]
        return [text for token in more if (text := token_text(token))]


def token_text(value: Any) -> str | None:
    """A token as it stands in a config: its text, or an object that holds it."""
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) and text else None


def _added_tokens(values: Mapping[str, Any], ids: Mapping[str, Any]) -> dict[int, AddedToken]:
    described = values.get("added_tokens_decoder") or {}
    special = _special_texts(values)
    try:
        # In the older files, what is named in the config is special.
        added = {
            int(token_id): _token({"content": text, "special": text in special})
            for text, token_id in ids.items()
        }
        added |= {int(token_id): _token(token) for token_id, token in described.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise TokenizerMissing(
            f"the tokenizer's added tokens are damaged ({type(error).__name__}): {REMEDY}"
        ) from error
    return added


def _special_texts(values: Mapping[str, Any]) -> set[str]:
    more = [token for name in _MORE for token in _listed(values.get(name))]
    texts = [token_text(token) for token in (*_named(values), *more)]
    return {text for text in texts if text}


def _named(values: Mapping[str, Any]) -> list[Any]:
    return [values.get(name) for name in NAMES]


def _listed(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, Mapping) else value or ())


def _token(value: Any) -> AddedToken:
    text = token_text(value)
    if text is None:
        raise ValueError("a token without text")
    given = value if isinstance(value, Mapping) else {}
    # Never after normalization: the original tokenizers look for them in the text as it came.
    return AddedToken(
        text,
        single_word=bool(given.get("single_word", False)),
        lstrip=bool(given.get("lstrip", False)),
        rstrip=bool(given.get("rstrip", False)),
        normalized=False,
        special=bool(given.get("special", False)),
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise TokenizerMissing(
            f"{path.name} is damaged: correct it, or download the model again"
        ) from error
    return value if isinstance(value, dict) else {}
