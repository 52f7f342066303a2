"""``/v1/completions``."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from sluice_gateway.answer import CompletionAnswer
from sluice_gateway.asking import (
    Asked,
    answer_head,
    in_prompt_thread,
    parse_body,
    prompt_builder,
)
from sluice_gateway.best_of import BestOf
from sluice_gateway.chunks import CompletionChunks
from sluice_gateway.exchange import Exchange
from sluice_gateway.model import ServedModel
from sluice_gateway.prompt import Prompt
from sluice_gateway.schema.completions import CompletionRequest
from sluice_gateway.streaming import StreamResponse, WholeResponse
from sluice_gateway.waiting_response import when_ready

router = APIRouter()


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """Go on with one or several prompts, streaming or whole."""
    completion = await parse_body(request, CompletionRequest)
    Asked.of(request).record.request = completion
    answer = partial(_answer, request, completion)
    rows = completion.candidates * len(completion.prompts)
    return await when_ready(request, completion.model, answer, rows=rows, stream=completion.stream)


async def _answer(request: Request, completion: CompletionRequest, model: ServedModel) -> Response:
    asked = Asked.of(request)
    asked.check_admission(model, completion.candidates * len(completion.prompts))
    builder = prompt_builder(asked.gateway, model)
    prompts = await in_prompt_thread(asked.gateway, partial(builder.completions, completion))
    exchange = asked.exchange(model, completion, prompts)
    # Choice i * candidates + j is row j of prompt i.
    by_choice = [prompt for prompt in prompts for _ in range(completion.candidates)]
    if completion.stream:
        return _stream(asked, completion, exchange, by_choice)
    return _whole(asked, completion, exchange, by_choice)


def _stream(
    asked: Asked, completion: CompletionRequest, exchange: Exchange, prompts: list[Prompt]
) -> StreamResponse:
    chunks = CompletionChunks(
        *answer_head("cmpl", exchange),
        choices=len(prompts),
        include_usage=completion.include_usage,
        service_tier=completion.service_tier,
        token_ids=completion.return_token_ids,
    )
    opening = b""
    echoes = completion.echo and completion.prompt_top_count is None  # else an event says it
    if echoes or completion.return_token_ids:
        usage = exchange.usage if completion.continuous_usage else None
        opening = b"".join(
            chunks.opening(
                index,
                prompt.text if echoes else "",
                prompt.ids if completion.return_token_ids else None,
                usage,
            )
            for index, prompt in enumerate(prompts)
        )
    return StreamResponse(
        exchange,
        asked.gateway,
        chunks,
        opening,
        include_usage=completion.include_usage,
        continuous_usage=completion.continuous_usage,
        include_timings=completion.include_timings,
    )


def _whole(
    asked: Asked, completion: CompletionRequest, exchange: Exchange, prompts: list[Prompt]
) -> WholeResponse:
    answer = CompletionAnswer(
        *answer_head("cmpl", exchange),
        choices=len(prompts),
        logprobs=completion.top_count is not None,
        service_tier=completion.service_tier,
        token_ids=completion.return_token_ids,
        prompt_ids=[prompt.ids for prompt in prompts] if completion.return_token_ids else None,
    )
    if completion.echo and completion.prompt_top_count is None:
        for index, prompt in enumerate(prompts):
            answer.echo(index, prompt.text)
    if completion.candidates == completion.n:
        return WholeResponse(exchange, asked.gateway, answer)
    best = BestOf(answer, exchange.choices, best_of=completion.candidates, n=completion.n)
    return WholeResponse(exchange, asked.gateway, best)
