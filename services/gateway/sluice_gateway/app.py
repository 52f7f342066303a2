"""The HTTP application: routes, errors in OpenAI's shape, request ids."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from sluice_gateway import __version__
from sluice_gateway.direct_routes import DirectRoute, DirectRoutes, Endpoint
from sluice_gateway.errors import (
    ApiError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    RouteNotFound,
)
from sluice_gateway.gateway import Gateway, gateway_of
from sluice_gateway.request_log import RequestLog
from sluice_gateway.routes import chat, completions, health, models, tokenize
from sluice_gateway.routes.openapi import openapi_routes
from sluice_gateway.routes.status import status_routes

log = logging.getLogger(__name__)

#: FastAPI's own traces would be of every probe, and know nothing of tokens.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}


def create_app(gateway: Gateway) -> ASGIApp:
    """The application around ``gateway``; its lifespan runs the gateway."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    app = FastAPI(
        title="Sluice",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,  # routes/openapi.py has one that describes the requests too
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.gateway = gateway
    app.include_router(health.router)
    if gateway.settings.status_page:
        app.include_router(status_routes())
    openapi = openapi_routes(keys=gateway.keys.required)
    for router in (chat.router, completions.router, models.router, tokenize.router, openapi):
        app.include_router(router, dependencies=[Depends(_authorize)])
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_fault)
    app.add_middleware(RequestLog, metrics=gateway.metrics)
    # FastAPI knows these too: what it answers to other methods is 405.
    direct: dict[str, Endpoint] = {
        "/v1/chat/completions": chat.chat_completions,
        "/v1/completions": completions.completions,
    }
    return DirectRoutes(app, {path: _direct(path, app, gateway, direct[path]) for path in direct})


def _direct(path: str, app: FastAPI, gateway: Gateway, endpoint: Endpoint) -> ASGIApp:
    """The route with what ``app`` puts around its own: keys, the log, errors, faults."""

    async def authorized(request: Request) -> Response:
        await _authorize(request)
        return await endpoint(request)

    route: ASGIApp = DirectRoute(path, app, authorized, _on_api_error)
    if gateway.tracing is not None:
        route = gateway.tracing.around(route, path)
    return ServerErrorMiddleware(RequestLog(route, gateway.metrics), _on_fault)


async def _authorize(request: Request) -> None:
    gateway_of(request).keys.check(request.headers.get("authorization"))


def error_response(error: ApiError) -> Response:
    """``error`` as the client gets it."""
    headers = {"content-type": "application/json", **error.headers}
    return Response(error.body(), error.status, headers)


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request.scope["state"]["record"].error = error
    reason = error.code or error.type
    gateway_of(request).metrics.rejected.labels(reason).inc()
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return error_response(RouteNotFound(f"There is nothing at {path}."))
    if error.status_code == 405:
        return error_response(
            MethodNotAllowed(
                f"{request.method} is not allowed at {path}.", headers=dict(error.headers or {})
            )
        )
    return error_response(InvalidRequest(str(error.detail)))


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("a fault in %s", request.url.path, exc_info=error)
    return error_response(InternalError("The gateway failed this request; its log says why."))
