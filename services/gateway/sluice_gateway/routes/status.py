"""``/``: the status page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from sluice_gateway.status_page import StatusPage


def status_routes() -> APIRouter:
    """The route; the page is put together once."""
    page = StatusPage.build()
    router = APIRouter()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def status(request: Request) -> Response:
        """The page, or that it is the one that the browser has."""
        if page.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=page.headers)
        return Response(page.body, media_type="text/html", headers=page.headers)

    return router
