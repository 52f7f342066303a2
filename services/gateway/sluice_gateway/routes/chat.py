"""``/v1/chat/completions``."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from sluice_gateway.answer import ChatAnswer
from sluice_gateway.asking import (
    Asked,
    answer_head,
    in_prompt_thread,
    parse_body,
    prompt_builder,
)
from sluice_gateway.chunks import ChatChunks
from sluice_gateway.exchange import Exchange
from sluice_gateway.model import ServedModel
from sluice_gateway.prompt import Prompt
from sluice_gateway.schema.chat import ChatRequest
from sluice_gateway.streaming import StreamResponse, WholeResponse
from sluice_gateway.waiting_response import when_ready

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer a conversation, streaming or whole."""
    chat = await parse_body(request, ChatRequest)
    Asked.of(request).record.request = chat
    answer = partial(_answer, request, chat)
    return await when_ready(request, chat.model, answer, rows=chat.n, stream=chat.stream)


async def _answer(request: Request, chat: ChatRequest, model: ServedModel) -> Response:
    asked = Asked.of(request)
    asked.check_admission(model, chat.n)
    builder = prompt_builder(asked.gateway, model)
    prompt = await in_prompt_thread(asked.gateway, partial(builder.chat, chat))
    exchange = asked.exchange(model, chat, [prompt])
    if chat.stream:
        return _stream(asked, chat, exchange, prompt)
    return _whole(asked, chat, exchange, prompt)


def _stream(asked: Asked, chat: ChatRequest, exchange: Exchange, prompt: Prompt) -> StreamResponse:
    chunks = ChatChunks(
        *answer_head("chatcmpl", exchange),
        choices=chat.n,
        include_usage=chat.include_usage,
        service_tier=chat.service_tier,
        token_ids=chat.return_token_ids,
    )
    prompt_ids = prompt.ids if chat.return_token_ids else None
    usage = exchange.usage if chat.continuous_usage else None
    roles = [
        chunks.role(index, prompt_ids if index == 0 else None, usage) for index in range(chat.n)
    ]
    return StreamResponse(
        exchange,
        asked.gateway,
        chunks,
        b"".join(roles),
        include_usage=chat.include_usage,
        continuous_usage=chat.continuous_usage,
        include_timings=chat.include_timings,
    )


def _whole(asked: Asked, chat: ChatRequest, exchange: Exchange, prompt: Prompt) -> WholeResponse:
    answer = ChatAnswer(
        *answer_head("chatcmpl", exchange),
        choices=chat.n,
        logprobs=chat.top_count is not None,
        service_tier=chat.service_tier,
        token_ids=chat.return_token_ids,
        prompt_ids=[prompt.ids] if chat.return_token_ids else None,
    )
    return WholeResponse(exchange, asked.gateway, answer)
