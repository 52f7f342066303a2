"""A request waits for its model: as long as it likes, within the gateway's bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable

from sluice_gateway.admission import shutting_down
from sluice_gateway.errors import ApiError, InvalidRequest, ModelFailed, ModelNotFound, Unavailable
from sluice_gateway.gateway import Gateway
from sluice_gateway.loading import Loading
from sluice_gateway.model import ServedModel
from sluice_gateway.routing import Router

WAIT_HEADER = "x-sluice-wait"

#: How often one who waits is told how far the model is.
TELL_SECONDS = 1.0

#: Takes how far the model is. Called at once, then about once a second and on a new state.
Tell = Callable[[Loading], Awaitable[None]]

_NUMBER = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")

#: Whose places are held by those who wait for a model that no worker has told of yet. Their own
#: words must not become keys that stay.
_UNHEARD = "a model not heard of yet"


def wait_seconds(headers: Iterable[tuple[bytes, bytes]], longest: float) -> float | None:
    """Seconds for which the request would wait, at most ``longest``; None if it would not.

    Raises InvalidRequest for a header that is no number above 0.
    """
    for name, value in headers:
        if name == WAIT_HEADER.encode():
            seconds = float(value) if _NUMBER.fullmatch(value) else 0.0
            if seconds <= 0:
                message = f"{WAIT_HEADER}: expected a number of seconds above 0, such as 60."
                raise InvalidRequest(message, param=WAIT_HEADER)
            return min(seconds, longest)
    return None


def model_or_hope(router: Router, name: str | None) -> ServedModel | ApiError:
    """The model of that name, or why it is not there yet.

    Raises what waiting does not mend: ModelFailed, InvalidRequest, and ModelNotFound once every
    worker has been heard.
    """
    try:
        return router.model(name)
    except ModelFailed:
        raise
    except ModelNotFound as error:
        if router.all_heard:
            raise
        return error
    except Unavailable as error:
        return error


async def wait_for_model(
    gateway: Gateway, name: str | None, seconds: float, *, rows: int = 1, tell: Tell | None = None
) -> ServedModel:
    """The model of that name, or the only one there is, as soon as a worker serves it.

    Holds places for ``rows`` meanwhile. Raises Overloaded, before the first ``tell``, when too
    many wait; what ``model_or_hope`` raises or, after ``seconds``, gives; and Unavailable when the
    gateway drains.
    """
    router, admission = gateway.router, gateway.admission
    with admission.admit(_place(router, name), rows, capacity=0):
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        telling = _Telling(tell)
        while True:
            count = router.changes.count
            found = model_or_hope(router, name)
            if isinstance(found, ServedModel):
                return found
            if admission.draining:
                raise shutting_down()
            if clock() >= deadline:
                raise found
            await telling.of(router.loading(name))
            await router.changes.beyond(count, min(deadline - clock(), TELL_SECONDS))


def _place(router: Router, name: str | None) -> str:
    if name is None:
        return router.only_name() or _UNHEARD
    return name if name in router.model_names() else _UNHEARD


class _Telling:
    """Tells one who waits what is new, but not more often than needed."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell
        self._state = ""
        self._due = 0.0

    async def of(self, loading: Loading) -> None:
        """Tell when the state is another or a second has passed."""
        now = asyncio.get_running_loop().time()
        if self._tell is None or (loading.state == self._state and now < self._due):
            return
        self._state = loading.state
        self._due = now + 0.9 * TELL_SECONDS  # timers are not exact: none is to be left out
        await self._tell(loading)
