"""The short way in Python. ``_compiled.c`` has the same: change both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sluice_gateway.chunks import quoted
from sluice_gateway.generation import Row
from sluice_gateway.http_protocol import BodyWriter
from sluice_gateway.inter_token import Intervals


class FastPath:
    """Makes and sends chunks of tokens that are a piece of text each and nothing else.

    That is what most tokens of most streams are, and then the machine and the events behind it say
    no more than the table of texts does. While a choice is in the middle of a character, once it
    has a stop token, or as long as its client does not keep up, its tokens go the long way.
    """

    __slots__ = (
        "_around",
        "_intervals",
        "_last",
        "_on_trouble",
        "_open",
        "_stop_ids",
        "_texts",
        "_write",
        "sent",
        "tokens",
    )

    def __init__(
        self,
        texts: Sequence[str | None],
        stop_ids: frozenset[int],
        around: tuple[bytes, bytes],
        writer: BodyWriter,
        intervals: Intervals,
        on_trouble: Callable[[Exception | None], None],
    ) -> None:
        """The way of one choice, closed at first.

        ``texts``: by token id. ``around``: a chunk's bytes before and after the JSON of its text.
        ``on_trouble`` is called when a write failed or, with None, when the client does not keep
        up; the way is closed then.
        """
        #: Tokens that went this way since it was opened.
        self.tokens = 0
        #: Chunks that were sent.
        self.sent = 0
        self._texts = texts
        self._stop_ids = stop_ids
        self._around = around
        self._write = writer
        self._intervals = intervals
        self._on_trouble = on_trouble
        self._last = 0.0
        self._open = False

    def open(self, last: float) -> None:
        """Take what comes now. ``last``: when the token before it came, by ``perf_counter``."""
        self._open = True
        self._last = last

    def close(self) -> tuple[int, float]:
        """Take nothing any more. How many were taken since ``open``, and when the last one came."""
        self._open = False
        tokens, self.tokens = self.tokens, 0
        return tokens, self._last

    def chunk(self, token_id: int, now: float) -> bytes | None:
        """The chunk of the row's next token, which came at ``now``.

        None: it goes the long way, and so do those behind it until the way is opened again.
        """
        if not self._open or token_id in self._stop_ids:
            self._open = False  # what comes behind must not overtake it
            return None
        # The logits may be wider than the vocabulary.
        text = self._texts[token_id] if 0 <= token_id < len(self._texts) else None
        if not text:
            self._open = False
            return None
        self._intervals.add(now - self._last, 1)
        self._last = now
        self.tokens += 1
        before, after = self._around
        return b"%b%b%b" % (before, quoted(text).encode(), after)

    def put(self, chunk: bytes) -> None:
        """Send a chunk."""
        self.sent += 1
        try:
            keeps_up = self._write(chunk)
        except Exception as error:  # noqa: BLE001 (the stream's, not the session's)
            self._open = False
            self._on_trouble(error)
        else:
            if not keeps_up:
                self._open = False
                self._on_trouble(None)


def deliver(
    rows: Mapping[int, Row], row_ids: Sequence[int], token_ids: Sequence[int], now: float
) -> list[Row]:
    """Give each row its next token, and send those that can go the short way.

    Returns the rows whose tokens go the long way. Rows that are not there are passed over. All is
    made before anything is sent: a client's process wakes once for a step then, and finds it all.
    Raises ValueError, with nothing given, for another number of tokens than of rows.
    """
    if len(row_ids) != len(token_ids):
        raise ValueError("row_ids and token_ids: expected as many of each")
    long_way: list[Row] = []
    chunks: list[tuple[FastPath, bytes]] = []
    for row_id, token_id in zip(row_ids, token_ids):  # noqa: B905 (looked at above)
        row = rows.get(row_id)
        if row is None:
            continue
        row.ids.append(token_id)
        path = row.fast_path
        if isinstance(path, FastPath) and row.finish is None:
            chunk = path.chunk(token_id, now)
            if chunk is not None:
                chunks.append((path, chunk))
                continue
        long_way.append(row)
    for way, chunk in chunks:
        way.put(chunk)
    return long_way
