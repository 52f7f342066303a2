"""Checks that a request can be served at all, before it is queued."""

from __future__ import annotations

from collections.abc import Iterable

from sluice_worker.engines.base import ErrorCode, GenerationRequest, ModelInfo, RequestError


def check_request(request: GenerationRequest, model: ModelInfo) -> None:
    """Raise RequestError if the model can never serve the request.

    Ids are checked against the width of the logits once more here: one beyond it would
    reach another row's memory.
    """
    if not request.prompt_ids:
        raise _invalid("the prompt has no tokens", "prompt_ids")
    if not request.rows:
        raise _invalid("the request has no rows", "rows")
    _check_ids(request, model.vocab_size)
    longest = len(request.prompt_ids) + request.sampling.max_tokens
    if longest > model.max_model_len:
        raise RequestError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"The prompt has {len(request.prompt_ids)} tokens and max_tokens is "
            f"{request.sampling.max_tokens}; together they exceed this model's "
            f"{model.max_model_len}.",
            "max_tokens",
        )
    for row in request.rows:
        if len(row.generated_ids) >= request.sampling.max_tokens:
            raise _invalid("generated_ids already has max_tokens tokens", "rows.generated_ids")


def _check_ids(request: GenerationRequest, width: int) -> None:
    sampling = request.sampling
    budget = sampling.thinking_budget
    fields: list[tuple[str, Iterable[int]]] = [
        ("prompt_ids", request.prompt_ids),
        ("sampling.logit_bias", sampling.logit_bias),
        ("sampling.stop_token_ids", sampling.stop_token_ids),
        ("sampling.allowed_token_ids", sampling.allowed_token_ids),
        *(("sampling.bad_words", word) for word in sampling.bad_words),
        ("sampling.thinking_budget", (budget.begin_id, budget.end_id) if budget else ()),
        *(("rows.generated_ids", row.generated_ids) for row in request.rows),
    ]
    for name, ids in fields:
        if ids and not (min(ids) >= 0 and max(ids) < width):
            raise _invalid(f"Token ids must be 0 to {width - 1}.", name)


def _invalid(message: str, field: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_ARGUMENT, message, field)
