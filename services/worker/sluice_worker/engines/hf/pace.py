"""How many prompt tokens a step may have, so that the rows which decode keep their pace."""

from __future__ import annotations

from collections import deque
from statistics import median

#: Steps that are remembered of each kind. The median of them is not moved by one that the system
#: held up, and follows contexts that grow and batches that change.
_REMEMBERED = 5


class Pace:
    """Learns from past steps what decoding takes, and what a prompt token adds to it."""

    def __init__(self, step_seconds: float, most: int, tile: int) -> None:
        """``step_seconds``: what a step may take while rows decode; infinite: no bound.

        ``most``: prompt tokens of a step in any case. ``tile``: what prompts are cut into, so as
        many are always allowed.
        """
        self._step_seconds = step_seconds
        self._most = most
        self._tile = tile
        self._decoding: deque[float] = deque(maxlen=_REMEMBERED)
        self._per_token: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """A step had so many decoding rows and prompt tokens, and took so long."""
        if not prompt_tokens:
            self._decoding.append(seconds)
            return
        others = self._decode_seconds() if decoding else 0.0
        # At the least a tenth of it: what decoding took may have been measured at another time.
        self._per_token.append(max(seconds - others, 0.1 * seconds) / prompt_tokens)

    def allowed(self, decoding: int) -> int:
        """The most prompt tokens of a step with so many decoding rows."""
        if not decoding or not self._per_token:
            return self._most
        room = max(self._step_seconds - self._decode_seconds(), 0.0)
        tokens = room / median(self._per_token)
        if tokens >= self._most:
            return self._most
        return min(self._most, max(self._tile, int(tokens) // self._tile * self._tile))

    def _decode_seconds(self) -> float:
        return median(self._decoding) if self._decoding else 0.0
