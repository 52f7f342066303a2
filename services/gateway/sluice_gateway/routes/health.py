"""Whether the gateway lives, can serve, and how its models and workers are; and its metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sluice_gateway import __version__
from sluice_gateway.connection import WorkerConnection
from sluice_gateway.gateway import Gateway, gateway_of
from sluice_gateway.routes.models import model_state

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """All models and workers with their state: 200 when a model is ready, else 503."""
    gateway = gateway_of(request)
    models = [_model(gateway, name) for name in gateway.router.model_names()]
    ready = any(model["state"] == "ready" for model in models)
    body = {
        "status": _status(gateway, ready=ready),
        "version": __version__,
        "models": models,
        "workers": [_worker(worker) for worker in gateway.router.connections],
    }
    return JSONResponse(body, 200 if ready and not gateway.admission.draining else 503)


def _status(gateway: Gateway, *, ready: bool) -> str:
    if gateway.admission.draining:
        return "draining"
    if ready:
        return "ok"
    return "waiting for a model" if gateway.router.model_names() else "waiting for a worker"


def _model(gateway: Gateway, name: str) -> dict[str, Any]:
    workers = gateway.router.workers_of(name)
    ready = [worker for worker in workers if worker.ready]
    return {
        "id": name,
        **model_state(gateway.router, name),
        "workers_ready": len(ready),
        "workers": len(workers),
        "max_model_len": ready[0].models[name].max_model_len if ready else None,
    }


def _worker(worker: WorkerConnection) -> dict[str, Any]:
    status, loading = worker.status, worker.loading
    silent_for = worker.silent_for
    return {
        "address": worker.address,
        "state": worker.state,
        "message": worker.trouble or loading.message or None,
        "loading": loading.as_json() if loading.on_its_way else None,
        "version": worker.session.software_version if worker.session else None,
        "model": worker.model_name,
        "adapters": sorted(worker.offers.keys() - {worker.model_name}),
        "rows_running": status.rows_running if status else None,
        "rows_waiting": status.rows_waiting if status else None,
        "batch_max": status.batch_max if status else None,
        "kv_cache_usage": round(status.kv_cache_usage, 4) if status else None,
        "last_heard_seconds_ago": None if silent_for is None else round(silent_for, 1),
    }


@router.get("/health/live")
async def live() -> JSONResponse:
    """200 while the process runs its event loop."""
    return JSONResponse({"status": "ok"})


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """200 while requests are taken, whether or not a model is loaded; 503 when draining."""
    if gateway_of(request).admission.draining:
        return JSONResponse({"status": "draining"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics where the scraper accepts it."""
    accept = ",".join(request.headers.getlist("accept"))
    exposition, content_type = gateway_of(request).metrics.exposition(accept)
    return Response(exposition, media_type=None, headers={"content-type": content_type})
