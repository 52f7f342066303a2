"""``/tokenize`` and ``/detokenize``: between text and token ids."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sluice_gateway.asking import in_prompt_thread, parse_body, prompt_builder
from sluice_gateway.gateway import Gateway, gateway_of
from sluice_gateway.model import ServedModel
from sluice_gateway.schema.tokenize import DetokenizeRequest, TokenizeRequest
from sluice_gateway.waiting_response import when_ready

router = APIRouter()


@router.post("/tokenize")
async def tokenize(request: Request) -> Response:
    """The token ids of a text or of a conversation."""
    gateway = gateway_of(request)
    asked = await parse_body(request, TokenizeRequest)
    return await when_ready(request, asked.model, partial(_tokenize, gateway, asked))


async def _tokenize(gateway: Gateway, asked: TokenizeRequest, model: ServedModel) -> Response:
    build = partial(prompt_builder(gateway, model).tokenize, asked)
    ids = await in_prompt_thread(gateway, build)
    return JSONResponse({"count": len(ids), "max_model_len": model.max_model_len, "tokens": ids})


@router.post("/detokenize")
async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    gateway = gateway_of(request)
    asked = await parse_body(request, DetokenizeRequest)
    return await when_ready(request, asked.model, partial(_detokenize, gateway, asked))


async def _detokenize(gateway: Gateway, asked: DetokenizeRequest, model: ServedModel) -> Response:
    build = partial(prompt_builder(gateway, model).detokenize, asked)
    return JSONResponse({"prompt": await in_prompt_thread(gateway, build)})
