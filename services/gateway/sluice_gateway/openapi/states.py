"""The answers of the routes that tell of models, workers and tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sluice_gateway.openapi.answers import Answer, Count


class Loading(Answer):
    """How far a model on its way is; null where nothing is known."""

    state: str = Field(
        description="`connecting`, `resolving`, `downloading`, `verifying`, `loading`, `warming`"
        " or `preparing`."
    )
    bytes_done: Count | None = Field(description="Of this state alone.")
    bytes_total: Count | None
    bytes_per_second: Count | None = Field(description="Of the last ten seconds.")
    eta_seconds: Count | None = Field(description="Until this state's bytes are done.")
    file: str | None = Field(description="The one at hand.")
    message: str | None = Field(description="What its worker has to say.")


class ModelState(Answer):
    """A model's state, and how far it is."""

    state: str = Field(
        description="`ready`, one of `loading`'s, `lost`, `silent` or `draining` when it is away,"
        " `failed` or `unusable`, `unknown`."
    )
    message: str | None = Field(description="The reason when it failed.")
    loading: Loading | None = Field(description="Null unless the model is on its way.")


class Model(ModelState):
    """A model, or an adapter."""

    id: str = Field(description="Its name, as requests have it in `model`.")
    object: Literal["model"]
    created: Count = Field(description="Seconds since 1970; 0 while it is not ready.")
    owned_by: Literal["sluice"]
    max_model_len: Count | None = Field(
        description="The most tokens of prompt and answer; null while it is not ready."
    )
    root: str = Field(description="An adapter's model; else its own name.")
    parent: str | None = Field(description="An adapter's model.")


class ModelList(Answer):
    """All models: those that are ready, on their way, away or failed."""

    object: Literal["list"]
    data: list[Model]


class ModelHealth(ModelState):
    """A model, and how many workers it has."""

    id: str
    workers_ready: Count
    workers: Count
    max_model_len: Count | None


class WorkerHealth(Answer):
    """A worker, as its last heartbeat told; null where none came."""

    address: str
    state: str
    message: str | None
    loading: Loading | None
    version: str | None
    model: str | None
    adapters: list[str]
    rows_running: Count | None
    rows_waiting: Count | None
    batch_max: Count | None
    kv_cache_usage: float | None = Field(description="The share in use, 0 to 1.")
    last_heard_seconds_ago: float | None


class Health(Answer):
    """All models and workers with their state."""

    status: Literal["ok", "draining", "waiting for a model", "waiting for a worker"]
    version: str = Field(description="The gateway's release.")
    models: list[ModelHealth]
    workers: list[WorkerHealth]


class Liveness(Answer):
    """Whether the gateway is there, or takes requests."""

    status: Literal["ok", "draining"]


class Tokens(Answer):
    """A text's tokens."""

    count: Count
    max_model_len: Count = Field(description="The most tokens of prompt and answer.")
    tokens: list[Count]


class Text(Answer):
    """The tokens' text."""

    prompt: str = Field(description="Special tokens included.")


class ErrorObject(Answer):
    """What went wrong."""

    message: str = Field(description="For humans; what is wrong and what to do.")
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None = Field(description="The field at fault, as `messages[0].content`.")
    code: str | None = Field(description="For programs; see the page's table.")
    loading: Loading | None = Field(None, description="With `model_loading` alone.")


class Error(Answer):
    """An error, whatever its status; also the last event but one of a stream that failed."""

    error: ErrorObject
