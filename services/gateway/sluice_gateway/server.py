"""The gateway's process: HTTP until SIGTERM, then draining, then the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn

from sluice_gateway import __version__
from sluice_gateway.admission import shutting_down
from sluice_gateway.app import create_app
from sluice_gateway.fast_path import why_interpreted
from sluice_gateway.gateway import Gateway
from sluice_gateway.http_protocol import BoundedHttpProtocol
from sluice_gateway.settings import Settings, TraceSettings

log = logging.getLogger(__name__)

BACKLOG = 2048

#: Containers made, less those freed, between two garbage collections. A request makes hundreds,
#: and nearly all of them go when it ends, without the collector: it need not look after each.
GC_THRESHOLD = 10_000

#: Longer than the pools of clients and ingresses keep connections: who closes first must not be us.
KEEP_ALIVE_SECONDS = 75

#: After draining, for what has only its last bytes to send.
LAST_BYTES_SECONDS = 2


class AddressInUse(Exception):
    """The port cannot be bound; the message names the setting."""


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: here a signal begins the draining."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings, traces: TraceSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises AddressInUse."""
    listener = _bind(settings.gateway_address)
    gateway = Gateway.build(settings, traces)
    config = uvicorn.Config(
        create_app(gateway),
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=LAST_BYTES_SECONDS,
    )
    server = _HttpServer(config)
    loop = asyncio.get_running_loop()
    draining: set[asyncio.Task[None]] = set()

    def on_signal() -> None:
        if draining:  # the second signal: at once
            server.should_exit = True
        else:
            draining.add(asyncio.create_task(_drain(gateway, server)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    host, port = listener.getsockname()[:2]
    log.info("sluice gateway %s: listening on %s:%d", __version__, host, port)
    if why_interpreted:
        log.info("tokens take the interpreted way, which is slower: %s", why_interpreted)
    # What lives from here to the end need not be looked at by each garbage collection.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    await server.serve(sockets=[listener])


async def _drain(gateway: Gateway, server: uvicorn.Server) -> None:
    log.info("draining: %d rows under way", gateway.admission.rows)
    if not await gateway.admission.drain(gateway.settings.drain_seconds):
        log.warning("%d rows were under way after DRAIN_SECONDS", gateway.admission.rows)
        gateway.router.fail_rows(shutting_down())
        await gateway.admission.wait_idle(LAST_BYTES_SECONDS)
    server.should_exit = True


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    except OSError as error:
        listener.close()
        raise AddressInUse(f"GATEWAY_ADDRESS={address}: {error.strerror}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
