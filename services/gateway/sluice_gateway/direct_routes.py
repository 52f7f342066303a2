"""A way past the web framework for the routes that generate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_gateway.errors import ApiError

#: Answers a request. Raises ApiError.
Endpoint = Callable[[Request], Awaitable[Response]]

#: What a client gets for an error.
Refuse = Callable[[Request, ApiError], Awaitable[Response]]


class DirectRoute:
    """ASGI: answers POSTs to one path, and errors as the application would."""

    def __init__(self, path: str, app: ASGIApp, endpoint: Endpoint, refuse: Refuse) -> None:
        """``app``: whose state the endpoint finds in ``request.app``."""
        self.path = path
        self._app = app
        self._endpoint = endpoint
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self._app
        scope["route"] = self  # the log and the metrics name it by its path
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request)
            await response(scope, receive, send)
        except ApiError as error:
            refusal = await self._refuse(request, error)
            await refusal(scope, receive, send)


class DirectRoutes:
    """ASGI: serves POSTs to some paths itself, and hands all else to the application.

    The way through FastAPI's layers (middleware, matching, dependencies, exit stacks) costs a
    request more than parsing it does.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, ASGIApp]) -> None:
        """``routes``: by path."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        app = self._app
        if scope["type"] == "http" and scope["method"] == "POST":
            app = self._routes.get(scope["path"], app)
        await app(scope, receive, send)
