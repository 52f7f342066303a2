"""``/v1/models``: what is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from sluice_gateway.gateway import gateway_of
from sluice_gateway.model import ServedModel

router = APIRouter()


def _model_object(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.info.created,
        "owned_by": "sluice",
        "max_model_len": model.max_model_len,
    }


@router.get("/v1/models")
async def list_models(request: Request) -> JSONResponse:
    """The models that are ready."""
    models = gateway_of(request).router.ready_models()
    return JSONResponse({"object": "list", "data": [_model_object(model) for model in models]})


@router.get("/v1/models/{name:path}")
async def get_model(request: Request, name: str) -> JSONResponse:
    """One model; its name may hold slashes. 404 when unknown, 503 while it loads."""
    return JSONResponse(_model_object(gateway_of(request).router.model(name)))
