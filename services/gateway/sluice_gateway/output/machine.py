"""One machine per choice: token ids in, events out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypedDict

from sluice_gateway.output.detokenizer import Detokenizer
from sluice_gateway.output.events import Event, Finished, FinishReason, TextDelta
from sluice_gateway.output.logprobs import TokenBytes, TokenLogprob, TokenScore, entry
from sluice_gateway.output.stop import StopFilter


class Options(TypedDict, total=False):
    """What a machine may be told besides (see OutputMachine)."""

    stop_ids: frozenset[int]
    hidden_ids: frozenset[int] | None
    stops: StopFilter | None
    min_tokens: int
    token_ids: bool


class OutputMachine:
    """Detokenizes a row, cuts it at stop strings, and keeps log-probabilities with their text.

    Feed it every id the worker sends, the stop token too, then close it with the worker's reason.
    How the ids are cut into deltas changes nothing but where the text is cut into events.

    A log-probability goes out with the first character of its token's text; one whose text is
    hidden or cut away goes out with the next, at the latest before ``Finished``: none is lost.
    """

    __slots__ = (
        "_detokenizer",
        "_emitted",
        "_feed_text",
        "_finished",
        "_hidden_ids",
        "_min_tokens",
        "_names",
        "_notes_all",
        "_plain",
        "_queue",
        "_received",
        "_stop_ids",
        "_stopped",
        "_stops",
        "_token_ids",
        "completion_tokens",
        "reasoning_tokens",
    )

    def __init__(
        self,
        detokenizer: Detokenizer,
        names: TokenBytes,
        *,
        stop_ids: frozenset[int] = frozenset(),
        hidden_ids: frozenset[int] | None = None,
        stops: StopFilter | None = None,
        min_tokens: int = 0,
        token_ids: bool = False,
    ) -> None:
        """Begin a choice.

        ``hidden_ids``: the stop ids whose text is not shown, all of them by default.
        ``token_ids``: put the ids into the events.
        """
        self._detokenizer = detokenizer
        self._feed_text = detokenizer.feed
        self._names = names
        self._stop_ids = stop_ids
        self._hidden_ids = stop_ids if hidden_ids is None else hidden_ids
        self._stops = stops
        self._min_tokens = min_tokens
        self._token_ids = token_ids
        self._notes_all = token_ids  # where each token's text begins
        self._plain = stops is None and not token_ids
        self._queue: deque[tuple[int, int, TokenLogprob | None]] = deque()
        self._received = 0  # characters detokenized
        self._emitted = 0  # characters let out
        self._stopped = False  # a stop token has come
        self._finished = False
        self.completion_tokens = 0
        self.reasoning_tokens = 0

    @property
    def texts(self) -> Sequence[str | None] | None:
        """What ``feed`` tells of each token, by id, while ``settled``; None if it tells more."""
        return self._detokenizer.texts if self._plain else None

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end the choice."""
        return self._stop_ids

    @property
    def settled(self) -> bool:
        """Whether nothing is held back and the choice goes on."""
        return self._detokenizer.settled and not (self._stopped or self._finished)

    @property
    def finished(self) -> bool:
        """Whether Finished has been said."""
        return self._finished

    def feed(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenScore] | None = None
    ) -> list[Event]:
        """The events that these ids bring; ``logprobs`` is parallel to them.

        Ids after the end are ignored.
        """
        # The hot path: one id, nothing to look for, nothing to keep.
        if (
            self._plain
            and logprobs is None
            and len(token_ids) == 1
            and not (self._stopped or self._finished)
            and token_ids[0] not in self._stop_ids
        ):
            self.completion_tokens += 1
            text = self._feed_text(token_ids)
            if text:
                self._received += len(text)
                self._emitted = self._received
                return [TextDelta(text)]
            return []
        return self._feed_each(token_ids, logprobs)

    def close(self, reason: FinishReason) -> list[Event]:
        """The last events: what was held back, and Finished. Nothing if it was said before."""
        if self._finished:
            return []
        text = self._detokenizer.flush()
        self._received += len(text)
        hit = False
        if self._stops is not None:
            text, hit = self._stops.feed(text)
            if not hit:
                text += self._stops.flush()
        return self._end([text], "stop" if hit else reason, hit)

    def _feed_each(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenScore] | None
    ) -> list[Event]:
        # Token by token, so that the ids after a stop string are as if they had never come.
        shown: list[str] = []
        for position, token_id in enumerate(token_ids):
            if self._stopped or self._finished:
                break
            found = entry(token_id, logprobs[position], self._names) if logprobs else None
            text = self._take(token_id, found)
            if self._stops is None:
                shown.append(text)
            elif self.completion_tokens <= self._min_tokens:
                # A stop string counts only in what comes after min_tokens.
                shown.append(text)
            else:
                text, hit = self._stops.feed(text)
                shown.append(text)
                if hit:
                    return self._end(shown, "stop", True)
        return self._emit("".join(shown))

    def _take(self, token_id: int, found: TokenLogprob | None) -> str:
        self.completion_tokens += 1
        if found is not None:
            found.offset = self._received
        if self._notes_all or found is not None:
            self._queue.append((self._received, token_id, found))
        if token_id in self._stop_ids:
            self._stopped = True
            if token_id in self._hidden_ids:
                return ""
        text = self._feed_text((token_id,))
        self._received += len(text)
        return text

    def _emit(self, text: str) -> list[Event]:
        self._emitted += len(text)
        ready = []
        while self._queue and self._queue[0][0] < self._emitted:
            ready.append(self._queue.popleft())
        return [self._delta(text, ready)] if text or ready else []

    def _end(self, shown: list[str], reason: FinishReason, by_stop_string: bool) -> list[Event]:
        self._finished = True
        return self._last("".join(shown), reason, by_stop_string)

    def _last(self, text: str, reason: FinishReason, by_stop_string: bool) -> list[Event]:
        events: list[Event] = []
        self._emitted += len(text)
        if text or self._queue:
            events.append(self._delta(text, list(self._queue)))
            self._queue.clear()
        events.append(Finished(reason, by_stop_string))
        return events

    def _delta(self, text: str, ready: list[tuple[int, int, TokenLogprob | None]]) -> TextDelta:
        if not ready:
            return TextDelta(text)
        entries = [found for _, _, found in ready if found is not None]
        for found in entries:
            # The text of a token may have been cut away with the stop string.
            found.offset = min(found.offset, self._emitted)
        ids = [token_id for _, token_id, _ in ready] if self._token_ids else ()
        return TextDelta(text, ids, entries or None)
