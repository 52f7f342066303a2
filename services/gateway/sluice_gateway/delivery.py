"""Hands what is new in an exchange to the one who answers its client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from sluice_gateway.output import Event

if TYPE_CHECKING:
    from sluice_gateway.exchange import Exchange

#: The events of one or more choices, with the choices' indices.
Batch = list[tuple[int, list[Event]]]


class Consumer(Protocol):
    """Answers a client. Called within the session reader's own call, so it must be quick."""

    def take(self, batch: Batch) -> None:
        """Make of it what is to be sent."""

    def send(self) -> bool:
        """Send that. Whether more can be taken."""


class Delivery:
    """What a signal tells of an exchange's rows, passed on until all its choices have ended.

    ``ended`` is its end: with a result when the consumer can take no more, too, and with the
    ApiError that ended a choice, or what the consumer raised.
    """

    __slots__ = ("_consumer", "_exchange", "_failure", "ended")

    def __init__(self, exchange: Exchange, consumer: Consumer) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchange = exchange
        self._consumer = consumer
        self._failure: Exception | None = None

    def gather(self) -> None:
        """See Listener."""
        if self.ended.done():
            return
        try:
            self._consumer.take(self._exchange.advance())
            self._failure = self._exchange.failure
        except Exception as error:  # noqa: BLE001 (raised where ``ended`` is awaited)
            self._failure = error

    def send(self) -> None:
        """See Listener."""
        if self.ended.done():
            return
        takes_more = False
        try:
            takes_more = self._consumer.send()
        except Exception as error:  # noqa: BLE001 (as above)
            self._failure = self._failure or error
        if self.ended.done():  # by what sending has led to
            return
        if self._failure is not None:
            self.ended.set_exception(self._failure)
        elif self._exchange.done or not takes_more:
            self.ended.set_result(None)
        else:
            self._exchange.open_paths()
