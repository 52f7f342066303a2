"""``/openapi.json``: what the API is."""

from __future__ import annotations

import json

from fastapi import APIRouter, Response

from sluice_gateway.openapi.document import document


def openapi_routes(*, keys: bool) -> APIRouter:
    """The route; the document is made once. ``keys``: whether the gateway asks for keys."""
    body = json.dumps(document(keys=keys), separators=(",", ":")).encode()
    router = APIRouter()

    @router.get("/openapi.json")
    async def openapi() -> Response:
        """The OpenAPI document."""
        return Response(body, media_type="application/json")

    return router
