"""Whether a converted tokenizer does what the original does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from sluice_worker.tokenizer_formats.errors import not_convertible

#: A name that no text has.
_HIDDEN = "\U0010fffd"
_SHOWN = 40


class Original(Protocol):
    """A tokenizer as its authors made it. To it, a special token's text is only text."""

    @property
    def name(self) -> str:
        """What is compared with, for messages."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of the text, with nothing added."""
        ...

    def decode(self, ids: Sequence[int]) -> str | None:
        """The text of ids that ``encode`` returned; None where it is nothing to compare with."""
        ...


def require_exact(
    tokenizer: Tokenizer, original: Original, texts: Iterable[str], file_name: str
) -> None:
    """Raise TokenizerMissing if a text is encoded or decoded in another way than originally."""
    plain = _without_special_tokens(tokenizer)
    for text in texts:
        ids = original.encode(text)
        if plain.encode(text, add_special_tokens=False).ids != ids:
            raise _differs(file_name, original, "encodes", text)
        wanted = original.decode(ids)
        if wanted is not None and plain.decode(ids, skip_special_tokens=False) != wanted:
            raise _differs(file_name, original, "decodes", text)


def require_special_tokens(tokenizer: Tokenizer, ids: dict[str, int], file_name: str) -> None:
    """Raise TokenizerMissing if the text of a special token is not that token and no other."""
    for content, token_id in ids.items():
        if tokenizer.encode(content, add_special_tokens=False).ids != [token_id]:
            reason = f"the special token {content[:_SHOWN]!r} would not be id {token_id}"
            raise not_convertible(file_name, reason)


def _differs(file_name: str, original: Original, does: str, text: str) -> Exception:
    reason = f"{original.name} {does} {text[:_SHOWN]!r} in another way than the result"
    return not_convertible(file_name, reason)


def _without_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """A copy to which the special tokens' text is only text, as a gateway makes it.

    ``encode_special_tokens`` alone leaves them in the model's vocabulary, and means nothing to
    added tokens that are not special.
    """
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    model = spec["model"]
    # Those that are looked for after normalization are symbols that the original knows too.
    renamed = {
        token["content"]: f"{_HIDDEN}{token['id']}"
        for token in spec["added_tokens"]
        if not token["normalized"]
    }
    for token in spec["added_tokens"]:
        token["content"] = renamed.get(token["content"], token["content"])
    if model.get("unk_token"):
        model["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    model["vocab"] = {renamed.get(piece, piece): place for piece, place in model["vocab"].items()}
    spec["post_processor"] = None
    plain = Tokenizer.from_str(json.dumps(spec))
    plain.encode_special_tokens = True
    return plain
