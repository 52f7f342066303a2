"""``/v1/models``: what is served, and what is about to be."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from sluice_gateway.gateway import gateway_of
from sluice_gateway.routing import Router

router = APIRouter()


def model_state(models: Router, name: str) -> dict[str, Any]:
    """A model's state, the reason when it failed, and how far it is while on its way."""
    worker = models.speaker(name)
    if worker is None:
        return {"state": "unknown", "message": None, "loading": None}
    loading = worker.loading
    return {
        "state": loading.state,
        "message": (worker.trouble if loading.failed else loading.message) or None,
        "loading": loading.as_json() if loading.on_its_way else None,
    }


def _model_object(models: Router, name: str) -> dict[str, Any]:
    model = models.ready_model(name)
    parent = models.parent_of(name) or None
    return {
        "id": name,
        "object": "model",
        "created": model.info.created if model else 0,  # clients expect a number
        "owned_by": "sluice",
        "max_model_len": model.max_model_len if model else None,
        # As vLLM has them, but that there the root is a path.
        "root": parent or name,
        "parent": parent,
        **model_state(models, name),
    }


@router.get("/v1/models")
async def list_models(request: Request) -> JSONResponse:
    """All models: those that are ready, on their way, away or failed."""
    models = gateway_of(request).router
    data = [_model_object(models, name) for name in models.model_names()]
    return JSONResponse({"object": "list", "data": data})


@router.get("/v1/models/{name:path}")
async def get_model(request: Request, name: str) -> JSONResponse:
    """One model; its name may hold slashes. 404 when unknown, 503 while no worker was heard."""
    models = gateway_of(request).router
    if name not in models.model_names():
        raise models.why_not(name)
    return JSONResponse(_model_object(models, name))
