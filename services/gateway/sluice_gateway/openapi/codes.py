"""The codes of errors, and what each means: the one place for it.

A test sees that no code of the gateway is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sluice_gateway import errors
from sluice_gateway.schema.strict import INVALID, INVALID_TYPE, MISSING, UNKNOWN, UNSUPPORTED

#: By class of error, then by code.
CODES: Mapping[type[errors.ApiError], Mapping[str, str]] = MappingProxyType(
    {
        errors.InvalidRequest: {
            INVALID: "A value that may not be, or not beside the others.",
            INVALID_TYPE: "A value of another type.",
            MISSING: "A field that has to be there is not.",
            UNKNOWN: "A field that nobody knows.",
            UNSUPPORTED: "A field, or a value of it, that the server, the model or its engine"
            " does not honour.",
            "invalid_json": "The body is no JSON, or no object.",
            "no_chat_template": "The model has none: use completions.",
        },
        errors.ContextLengthExceeded: {
            "context_length_exceeded": "Prompt and answer do not fit the model's context."
        },
        errors.InvalidKey: {"invalid_api_key": "The key is missing or wrong."},
        errors.ModelNotFound: {"model_not_found": "No worker serves a model of that name."},
        errors.RouteNotFound: {"not_found": "There is nothing at that path."},
        errors.MethodNotAllowed: {
            "method_not_allowed": "The path does not have that method; `Allow` tells which."
        },
        errors.RequestTimeout: {"request_timeout": "The body did not come within 60 s."},
        errors.RequestTooLarge: {
            "request_too_large": "The body is larger than `MAX_BODY_BYTES`, by default 8 MiB."
        },
        errors.Overloaded: {"overloaded": "Too much is waiting already."},
        errors.InternalError: {"internal_error": "A fault of the server; the log says more."},
        errors.Unavailable: {
            "unavailable": "No worker can take the request now.",
            "draining": "The gateway is about to end.",
        },
        errors.WorkerLost: {
            "worker_lost": "The worker was lost while it generated the answer, and no other could"
            " go on with it."
        },
        errors.ModelLoading: {
            "model_loading": "The model is on its way; `loading` in the error tells how far."
        },
        errors.ModelFailed: {"model_failed": "The model cannot be served; the message says why."},
    }
)
