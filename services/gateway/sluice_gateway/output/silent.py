"""An output machine for a client that wants no token."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_gateway.output.events import Event, Finished, FinishReason
from sluice_gateway.output.logprobs import TokenScore
from sluice_gateway.output.machine import OutputMachine


class SilentMachine(OutputMachine):
    """Tells nothing of what it is fed: workers generate at least one token."""

    __slots__ = ()

    @property
    def texts(self) -> None:
        """None: there is nothing to tell."""
        return

    def feed(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenScore] | None = None
    ) -> list[Event]:
        """No events."""
        return []

    def close(self, reason: FinishReason) -> list[Event]:
        """The end, which is that of the limit whatever the worker's was."""
        if self._finished:
            return []
        self._finished = True
        return [Finished("length")]
