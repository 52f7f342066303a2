"""Holds every stream that a test reads over HTTP against the rules, whoever reads it.

The transports of the HTTP clients are where all answers come by: those that tests ask for
themselves, and those that the official SDKs do.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

from tests.stream_rules import BrokenRule, StreamRules

ROUTES = ("/v1/chat/completions", "/v1/completions")
LIBRARIES: tuple[Any, ...] = (httpx, httpx2)


class StreamWatch:
    """Keeps what it finds wrong until it is asked."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self.streams = 0

    def take(self) -> list[str]:
        """The faults since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Look at all answers from now on, until the patch is undone."""
        for library in LIBRARIES:
            self._wrap_sync(library, patch)
            self._wrap_async(library, patch)

    def _wrap_sync(self, library: Any, patch: pytest.MonkeyPatch) -> None:
        original = library.HTTPTransport.handle_request

        def handle_request(transport: Any, request: Any) -> Any:
            response = original(transport, request)
            if _is_stream(response, request):
                check = self._reading(request.url.path, request.read(), response.headers)
                response.stream = _sync_stream(library.SyncByteStream, response.stream, check)
            return response

        patch.setattr(library.HTTPTransport, "handle_request", handle_request)

    def _wrap_async(self, library: Any, patch: pytest.MonkeyPatch) -> None:
        original = library.AsyncHTTPTransport.handle_async_request

        async def handle_async_request(transport: Any, request: Any) -> Any:
            response = await original(transport, request)
            if _is_stream(response, request):
                check = self._reading(request.url.path, await request.aread(), response.headers)
                response.stream = _async_stream(library.AsyncByteStream, response.stream, check)
            return response

        patch.setattr(library.AsyncHTTPTransport, "handle_async_request", handle_async_request)

    def _reading(self, path: str, body: bytes, headers: Any) -> Callable[[bytes | None], None]:
        """Takes the pieces of one stream, and None when it has ended by itself."""
        self.streams += 1
        rules = StreamRules(path, json.loads(body))
        broken = False

        def check(data: bytes | None) -> None:
            nonlocal broken
            if broken:
                return
            try:
                if data is None:
                    rules.close()
                else:
                    rules.feed(data)
            except (BrokenRule, ValueError) as fault:
                broken = True
                self._faults.append(f"{path}: {fault}; the request: {body[:300]!r}")

        try:
            rules.headers(headers)
        except BrokenRule as fault:
            self._faults.append(f"{path}: {fault}")
        return check


def _is_stream(response: Any, request: Any) -> bool:
    kind = response.headers.get("content-type", "")
    return (
        response.status_code == 200
        and request.url.path in ROUTES
        and kind.startswith("text/event-stream")
    )


def _sync_stream(base: Any, stream: Any, check: Callable[[bytes | None], None]) -> Any:
    class Checked(base):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            for data in stream:
                check(data)
                yield data
            check(None)

        def close(self) -> None:
            stream.close()

    return Checked()


def _async_stream(base: Any, stream: Any, check: Callable[[bytes | None], None]) -> Any:
    class Checked(base):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for data in stream:
                check(data)
                yield data
            check(None)

        async def aclose(self) -> None:
            await stream.aclose()

    return Checked()
