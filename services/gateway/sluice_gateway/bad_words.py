"""From words that must not be in an answer to the token ids that spell them."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_gateway.errors import InvalidRequest
from sluice_gateway.model import ServedModel

#: The most ids of all words together: what vLLM's runner for GPUs has room for.
BAD_WORD_IDS_MAX = 1024


def bad_word_ids(words: Sequence[str] | None, model: ServedModel) -> tuple[tuple[int, ...], ...]:
    """The ids of each word as it begins a text and as it follows a space, each once.

    As in vLLM a word's own leading space says nothing. Other than there, its spelling behind a
    space is barred also where it has more or fewer tokens than the other.

    Raises InvalidRequest that names ``bad_words``.
    """
    spelled: dict[tuple[int, ...], None] = {}
    for place, word in enumerate(words or ()):
        bare = word.lstrip() or word
        found = [tuple(_encoded(form, model, place)) for form in (bare, " " + bare)]
        if not found[0]:
            raise _invalid(f"bad_words[{place}]", "expected text that has at least one token")
        spelled.update(dict.fromkeys(ids for ids in found if ids))
    total = sum(map(len, spelled))
    if total > BAD_WORD_IDS_MAX:
        raise _invalid(
            "bad_words", f"expected at most {BAD_WORD_IDS_MAX} tokens in all, but got {total}"
        )
    return tuple(spelled)


def _encoded(text: str, model: ServedModel, place: int) -> list[int]:
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    if ids and max(ids) >= model.vocab_size:
        why = "its tokens are outside of the model's vocabulary"
        raise _invalid(f"bad_words[{place}]", why)
    return ids


def _invalid(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': {why}.", param=param, code="invalid_value")
