"""The routes: what each takes, what it answers, and with which errors it may end."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_gateway.errors import (
    ApiError,
    ContextLengthExceeded,
    InternalError,
    InvalidKey,
    InvalidRequest,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    RequestTimeout,
    RequestTooLarge,
    RouteNotFound,
    Unavailable,
    WorkerLost,
)
from sluice_gateway.openapi import states
from sluice_gateway.openapi.answers import (
    Answer,
    ChatChunk,
    CompletionChunk,
    WholeChat,
    WholeCompletion,
)
from sluice_gateway.schema.chat import ChatRequest
from sluice_gateway.schema.completions import CompletionRequest
from sluice_gateway.schema.strict import Strict
from sluice_gateway.schema.tokenize import DetokenizeRequest, TokenizeRequest

#: Errors of requests that name a model.
_OF_MODELS = (ModelNotFound, Unavailable, ModelLoading, ModelFailed)
_OF_BODIES = (InvalidRequest, RequestTimeout, RequestTooLarge, Overloaded)


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path.

    ``answers``: by status. ``chunk``: an event of the answer if it is a stream. ``text``: the
    answer is Prometheus' text and no JSON. ``page``: it is HTML. ``waits``: it may wait for its
    model. ``keyed``: it needs a key where there are keys.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: str
    answers: dict[int, type[Answer]]
    request: type[Strict] | None = None
    chunk: type[Answer] | None = None
    text: bool = False
    page: bool = False
    document: bool = False
    keyed: bool = True
    errors: tuple[type[ApiError], ...] = ()

    @property
    def waits(self) -> bool:
        """Whether the header ``x-sluice-wait`` has a meaning."""
        return self.request is not None

    @property
    def all_errors(self) -> tuple[type[ApiError], ...]:
        """Those of every route too."""
        return (*self.errors, *((InvalidKey,) if self.keyed else ()), InternalError)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "post",
        "/v1/chat/completions",
        "createChatCompletion",
        "Answers a conversation, as a stream or whole.",
        "Generation",
        {200: WholeChat},
        request=ChatRequest,
        chunk=ChatChunk,
        errors=(*_OF_BODIES, ContextLengthExceeded, *_OF_MODELS, WorkerLost),
    ),
    Operation(
        "post",
        "/v1/completions",
        "createCompletion",
        "Goes on with one or several prompts, as a stream or whole.",
        "Generation",
        {200: WholeCompletion},
        request=CompletionRequest,
        chunk=CompletionChunk,
        errors=(*_OF_BODIES, ContextLengthExceeded, *_OF_MODELS, WorkerLost),
    ),
    Operation(
        "post",
        "/tokenize",
        "tokenize",
        "The token ids of a text or of a conversation.",
        "Tokens",
        {200: states.Tokens},
        request=TokenizeRequest,
        errors=(*_OF_BODIES, *_OF_MODELS),
    ),
    Operation(
        "post",
        "/detokenize",
        "detokenize",
        "The text of token ids.",
        "Tokens",
        {200: states.Text},
        request=DetokenizeRequest,
        errors=(*_OF_BODIES, *_OF_MODELS),
    ),
    Operation(
        "get",
        "/v1/models",
        "listModels",
        "All models: those that are ready, on their way, away or failed.",
        "Models",
        {200: states.ModelList},
    ),
    Operation(
        "get",
        "/v1/models/{model}",
        "getModel",
        "One model.",
        "Models",
        {200: states.Model},
        errors=_OF_MODELS,
    ),
    Operation(
        "get",
        "/health",
        "getHealth",
        "All models and workers with their state: 200 when a model is ready.",
        "Operation",
        {200: states.Health, 503: states.Health},
        keyed=False,
    ),
    Operation(
        "get",
        "/health/live",
        "getLiveness",
        "200 while the process runs its event loop.",
        "Operation",
        {200: states.Liveness},
        keyed=False,
    ),
    Operation(
        "get",
        "/health/ready",
        "getReadiness",
        "200 while requests are taken, whether or not a model is loaded; 503 when draining.",
        "Operation",
        {200: states.Liveness, 503: states.Liveness},
        keyed=False,
    ),
    Operation(
        "get",
        "/metrics",
        "getMetrics",
        "Prometheus' text format; OpenMetrics, with exemplars, where `Accept` asks for it.",
        "Operation",
        {},
        text=True,
        keyed=False,
    ),
    Operation(
        "get",
        "/openapi.json",
        "getOpenapi",
        "This description: OpenAPI 3.1.",
        "Operation",
        {},
        document=True,
    ),
    Operation(
        "get",
        "/",
        "getStatusPage",
        "The status page, for browsers; a 404 with `STATUS_PAGE=false`.",
        "Operation",
        {},
        page=True,
        keyed=False,
        errors=(RouteNotFound,),
    ),
    Operation(
        "head",
        "/",
        "headStatusPage",
        "Its headers.",
        "Operation",
        {},
        page=True,
        keyed=False,
        errors=(RouteNotFound,),
    ),
)
