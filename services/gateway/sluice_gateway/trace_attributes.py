"""What a request's span tells, by the names of OpenTelemetry's semantic conventions.

Those for generative AI and for HTTP; what they have no name for begins with ``sluice.``.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Scope

from sluice_gateway.record import RequestRecord

#: As much as a span takes over of a model's name, which may be any text of a client's.
MODEL_LENGTH = 256

Attributes = dict[str, Any]


def request_attributes(
    operation: str, record: RequestRecord, scope: Scope, fault: BaseException | None
) -> Attributes:
    """All but the texts. ``scope`` is ASGI's; ``fault``: what the request raised."""
    known: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "sluice",
        **_asked(record),
        **_answered(record),
        "error.type": _error_type(record, fault),
        "http.request.method": record.method,
        "http.route": scope["path"],
        "http.response.status_code": record.status or (500 if fault else None),
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "sluice.request_id": record.request_id,
        "sluice.attempts": len(record.attempts) or None,
        "sluice.batch_size": record.batch_size,
        "sluice.client_left": record.disconnected or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _asked(record: RequestRecord) -> Attributes:
    """What the client asked for, where it said so."""
    request = record.request
    if request is None:
        return {}
    return {
        "gen_ai.request.model": clean((request.model or record.model)[:MODEL_LENGTH]) or None,
        "gen_ai.request.stream": request.stream,
        "gen_ai.request.choice.count": request.n if request.n > 1 else None,
        "gen_ai.request.max_tokens": request.token_limit,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.top_p": request.top_p,
        "gen_ai.request.top_k": request.top_k,
        "gen_ai.request.frequency_penalty": request.frequency_penalty,
        "gen_ai.request.presence_penalty": request.presence_penalty,
        "gen_ai.request.seed": request.seed,
    }


def _answered(record: RequestRecord) -> Attributes:
    """What it got. Time to first chunk: to the first token, of a whole answer too."""
    usage = record.usage
    return {
        "gen_ai.response.model": record.model or None,
        "gen_ai.response.id": record.response_id or None,
        "gen_ai.response.finish_reasons": _finish_reasons(record),
        "gen_ai.response.time_to_first_chunk": record.time_to_first_token,
        "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage and usage.reasoning_tokens,
    }


def _finish_reasons(record: RequestRecord) -> list[str] | None:
    """One for each choice, ``none`` for one that did not come to its end; None: no choice did."""
    if not any(record.finish_reasons):
        return None
    return [reason or "none" for reason in record.finish_reasons]


def _error_type(record: RequestRecord, fault: BaseException | None) -> str | None:
    if fault is not None:
        return type(fault).__qualname__
    error = record.error
    return None if error is None else error.code or error.type


def clean(text: str) -> str:
    """The text as UTF-8 can have it: what is not would cost all spans that are sent with it."""
    return text.encode(errors="replace").decode()


def content_attributes(record: RequestRecord, prompts: list[str], answers: list[str]) -> Attributes:
    """Prompts as the model read them, answers as it wrote them, special tokens and all."""
    reasons = record.finish_reasons
    asked = [_message("user", prompt) for prompt in prompts]
    answered = [
        {**_message("assistant", answer), "finish_reason": reason or "none"}
        for answer, reason in zip(answers, reasons, strict=True)
    ]
    return {
        "gen_ai.input.messages": json.dumps(asked, ensure_ascii=False),
        "gen_ai.output.messages": json.dumps(answered, ensure_ascii=False),
    }


def _message(role: str, text: str) -> Attributes:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
