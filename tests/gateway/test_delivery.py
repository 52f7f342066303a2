"""What is new reaches the client's answer, and nothing that goes wrong there reaches others."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from sluice_gateway.delivery import Batch, Delivery
from sluice_gateway.exchange import Exchange


class Asked:
    """An exchange as a Delivery sees it."""

    failure: Exception | None = None
    done = False
    opened = 0

    def advance(self) -> Batch:
        return []

    def open_paths(self) -> None:
        self.opened += 1


class Answering:
    """A consumer that may fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.takes_more = True
        self.sent = 0
        self.delivery: Delivery | None = None

    def take(self, batch: Batch) -> None:
        if self.error is not None:
            raise self.error

    def send(self) -> bool:
        self.sent += 1
        if self.delivery is not None:
            self.delivery.ended.cancel()
        return self.takes_more


def wake(delivery: Delivery) -> None:
    delivery.gather()
    delivery.send()


def made(asked: Asked, answering: Answering) -> Delivery:
    return Delivery(cast("Exchange", cast("Any", asked)), answering)


async def test_the_short_way_opens_behind_what_was_sent_well() -> None:
    asked, answering = Asked(), Answering()
    delivery = made(asked, answering)
    wake(delivery)
    assert (asked.opened, delivery.ended.done()) == (1, False)


@pytest.mark.parametrize("takes_more", [True, False])
async def test_it_stays_closed_behind_a_failure(takes_more: bool) -> None:
    asked, answering = Asked(), Answering()
    answering.error, answering.takes_more = ValueError("no"), takes_more
    delivery = made(asked, answering)
    wake(delivery)
    assert (asked.opened, answering.sent) == (0, 1)  # what came before the failure is sent
    with pytest.raises(ValueError, match="no"):
        await delivery.ended


async def test_it_stays_closed_while_the_client_does_not_keep_up() -> None:
    asked, answering = Asked(), Answering()
    answering.takes_more = False
    delivery = made(asked, answering)
    wake(delivery)
    assert asked.opened == 0
    await delivery.ended


async def test_one_that_ends_while_it_sends_breaks_nobody_else() -> None:
    asked, answering = Asked(), Answering()
    delivery = answering.delivery = made(asked, answering)
    answering.takes_more = False
    wake(delivery)
    assert asked.opened == 0
    with pytest.raises(asyncio.CancelledError):
        await delivery.ended
