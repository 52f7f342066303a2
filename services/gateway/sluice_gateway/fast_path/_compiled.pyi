# ``interpreted.py``, compiled from ``_compiled.c``.

from collections.abc import Callable, Mapping, Sequence

from sluice_gateway.generation import Row
from sluice_gateway.http_protocol import BodyWriter
from sluice_gateway.inter_token import Intervals

class FastPath:
    @property
    def tokens(self) -> int: ...
    @property
    def sent(self) -> int: ...
    def __init__(
        self,
        texts: Sequence[str | None],
        stop_ids: frozenset[int],
        around: tuple[bytes, bytes],
        writer: BodyWriter,
        intervals: Intervals,
        on_trouble: Callable[[Exception | None], None],
    ) -> None: ...
    def open(self, last: float) -> None: ...
    def close(self) -> tuple[int, float]: ...

def deliver(
    rows: Mapping[int, Row], row_ids: Sequence[int], token_ids: Sequence[int], now: float
) -> list[Row]: ...
