"""Which worker addresses there are, now and as they change."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

from sluice_gateway.settings import DNS_SCHEME

log = logging.getLogger(__name__)


class Discovery:
    """Resolves targets to addresses, again and again for ``dns:///`` names.

    A headless Service's name has one address per pod; pods come and go.
    """

    def __init__(self, targets: tuple[str, ...], refresh_seconds: float) -> None:
        self._targets = targets
        self._refresh_seconds = refresh_seconds
        self._known: dict[str, frozenset[str]] = {}

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        """The set of addresses, first at once and then whenever it changes."""
        last: frozenset[str] | None = None
        while True:
            current = await self._resolve()
            if current != last:
                yield current
                last = current
            if not any(target.startswith(DNS_SCHEME) for target in self._targets):
                return
            await asyncio.sleep(self._refresh_seconds)

    async def _resolve(self) -> frozenset[str]:
        found: set[str] = set()
        for target in self._targets:
            if target.startswith(DNS_SCHEME):
                found |= await self._look_up(target)
            else:
                found.add(target)
        return frozenset(found)

    async def _look_up(self, target: str) -> frozenset[str]:
        host, _, port = target.removeprefix(DNS_SCHEME).rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            return self._after_failure(target, error)
        addresses = frozenset(_address(info[4][0], int(port)) for info in infos)
        self._known[target] = addresses
        return addresses

    def _after_failure(self, target: str, error: socket.gaierror) -> frozenset[str]:
        """A name with no address has no workers; a resolver that fails says nothing new."""
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            self._known[target] = frozenset()
        else:
            log.warning("resolving %s failed (%s); its last addresses stay", target, error)
        return self._known.get(target, frozenset())


def _address(host: str | int, port: int) -> str:
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
