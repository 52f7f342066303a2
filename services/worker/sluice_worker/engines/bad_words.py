"""Which tokens may not come next because they would end a sequence that is barred."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Word = tuple[int, ...]


class BadWords:
    """Follows the generated tokens of one row. A step costs the words that may end in it."""

    def __init__(self, words: Iterable[Word], generated: Sequence[int]) -> None:
        """``words``: at least one id each. ``generated``: what the row has generated already."""
        words = list(words)
        self._always = sorted({word[0] for word in words if len(word) == 1})
        # By the token before the last: few words are looked at in each step.
        self._by_token: dict[int, list[Word]] = {}
        for word in words:
            if len(word) > 1:
                self._by_token.setdefault(word[-2], []).append(word)
        self._kept = max(map(len, words), default=1) - 1
        self._tail = list(generated[-self._kept :]) if self._kept else []

    def add(self, token: int) -> None:
        """The row goes on with ``token``."""
        if self._kept:
            self._tail = [*self._tail[1 - self._kept :], token] if self._kept > 1 else [token]

    def barred(self) -> list[int]:
        """The tokens that may not come next."""
        if not self._tail:
            return self._always
        words = self._by_token.get(self._tail[-1], ())
        return [*self._always, *(word[-1] for word in words if self._has_begun(word))]

    def _has_begun(self, word: Word) -> bool:
        return self._tail[1 - len(word) :] == list(word[:-1])


def straddled(words: Iterable[Word], generated: Sequence[int]) -> bool:
    """Whether ``generated`` ends with the beginning of a word, but not with all of it."""
    return any(
        tuple(generated[-size:]) == word[:size]
        for word in words
        for size in range(1, min(len(word), len(generated) + 1))
    )
