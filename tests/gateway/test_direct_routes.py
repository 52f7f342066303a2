from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sluice_gateway.direct_routes import DirectRoute, DirectRoutes
from sluice_gateway.errors import ApiError, InvalidRequest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

PATH = "/direct"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("application")(scope, receive, send)


async def refuse(request: Request, error: ApiError) -> Response:
    return PlainTextResponse(error.message, error.status)


async def echo(request: Request) -> Response:
    assert request.app is application
    if request.headers.get("refuse"):
        raise InvalidRequest("refused")
    return PlainTextResponse(await request.body())


def ask(method: str = "POST", path: str = PATH, **headers: str) -> tuple[int, bytes, Scope]:
    """The status, the body and the scope of a request that was served."""
    route = DirectRoute(PATH, application, echo, refuse)
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"direct", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(DirectRoutes(application, {PATH: route})(scope, receive, send))
    start, *pieces = sent
    return start["status"], b"".join(piece.get("body", b"") for piece in pieces), scope


def test_a_direct_route_answers_posts_to_its_path_and_is_known_by_it() -> None:
    status, body, scope = ask()
    assert (status, body) == (200, b"direct")
    assert scope["route"].path == PATH


@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", PATH + "/"), ("POST", "/")])
def test_whatever_else_is_the_applications(method: str, path: str) -> None:
    assert ask(method, path)[:2] == (200, b"application")


def test_an_api_error_of_a_direct_route_is_refused_as_the_applications_are() -> None:
    assert ask(refuse="yes")[:2] == (400, b"refused")
