"""Reads a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio

from fastapi import Request

from sluice_gateway.errors import InvalidRequest, RequestTimeout, RequestTooLarge
from sluice_gateway.gateway import gateway_of

#: From the first to the last byte of a body.
BODY_SECONDS = 60.0


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises RequestTooLarge, RequestTimeout, or InvalidRequest for a client that left meanwhile.
    """
    limit = gateway_of(request).settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _pieces(request, limit)
    except TimeoutError:
        message = f"The body did not come within {BODY_SECONDS:.0f} s."
        raise RequestTimeout(message, headers={"connection": "close"}) from None


async def _pieces(request: Request, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The client left before its body was complete.")
        body += message["body"]
        if len(body) > limit:
            raise _too_large(limit)
        if not message["more_body"]:
            return bytes(body)


def _too_large(limit: int) -> RequestTooLarge:
    # What is left of the body is not read: the connection cannot be used again.
    message = f"The body is larger than {limit} bytes, the most that this server reads."
    return RequestTooLarge(message, headers={"connection": "close"})
