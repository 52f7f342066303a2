"""Errors as OpenAI's clients know them. One class per kind; status and code travel with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sluice_gateway.loading import Loading


class ApiError(Exception):
    """An error with its HTTP status and OpenAI's type and code.

    ``message`` is for the client: it says what is wrong and what to do, and holds no
    address, path or traceback. ``param`` names the request field at fault.
    """

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        if code is not None:
            self.code = code

    def body(self) -> bytes:
        """The JSON body, all four keys of OpenAI's error object present.

        In ASCII: a name that it quotes may be text that no UTF-8 can be made of.
        """
        return json.dumps({"error": self.as_json()}).encode()

    def as_json(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }


class InvalidRequest(ApiError):
    """The request is malformed or asks for what is not supported."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and output do not fit the model's context."""

    code = "context_length_exceeded"


class InvalidKey(ApiError):
    """The API key is missing or wrong."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ModelNotFound(ApiError):
    """No worker serves a model of that name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class RouteNotFound(ApiError):
    """There is nothing at that path."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ApiError):
    """The path exists, but not with that method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The body came too slowly."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class RequestTooLarge(ApiError):
    """The body is larger than the gateway reads."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class Overloaded(ApiError):
    """Too much is waiting already; try again later."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"


class Unavailable(ApiError):
    """No worker can take the request now."""

    status = 503
    type = "server_error"
    code = "unavailable"


class WorkerLost(Unavailable):
    """The worker of a request went away, and no other could go on with it."""

    code = "worker_lost"

    def __init__(self, message: str = "") -> None:
        message = message or "The worker of this request was lost. Please send the request again."
        super().__init__(message, headers={"Retry-After": "1"})


class ModelLoading(Unavailable):
    """The model is on its way. Its error object has a key more: ``loading``, with the numbers."""

    code = "model_loading"

    def __init__(self, name: str | None, loading: Loading) -> None:
        headers = {"Retry-After": str(loading.retry_after)}
        super().__init__(loading.sentence(name), headers=headers)
        self.loading = loading

    def as_json(self) -> dict[str, Any]:
        """OpenAI's error object, and ``loading`` in it: clients hand on this object alone."""
        return {**super().as_json(), "loading": self.loading.as_json()}


class ModelFailed(Unavailable):
    """None of the model's workers can serve it; the message says why.

    Clients are asked not to try again by themselves: nothing mends within their seconds.
    """

    code = "model_failed"

    def __init__(self, name: str, reason: str) -> None:
        reason = " ".join(reason.split()) or "its worker's log says why."
        message = f"The model `{name}` failed to load: {reason}"
        super().__init__(message, headers={"x-should-retry": "false"})


class InternalError(ApiError):
    """A fault of ours; the details are in the log."""
