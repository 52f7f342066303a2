"""Fetches what the gateway needs of a worker's model: its description and its tokenizer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_gateway.model import GenerationDefaults, ModelInfo, ServedModel

#: Tokenizers are large; of what workers no longer serve only a few stay.
MODELS_KEPT = 16


class ModelUnusable(Exception):
    """The worker's model cannot be served through this gateway; the message says why."""


class ModelFetcher:
    """Builds ServedModels. Workers that describe the same model share one copy of it."""

    def __init__(self) -> None:
        self._built: OrderedDict[bytes, ServedModel] = OrderedDict()
        self._lock = asyncio.Lock()

    async def fetch(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub) -> ServedModel:
        """The worker's model. Raises AioRpcError, or ModelUnusable for a broken tokenizer."""
        description = await stub.GetModel(pb.GetModelRequest())
        key = _identity(description)
        async with self._lock:
            if key not in self._built:
                files = await self._tokenizer_files(stub, description.tokenizer_hash)
                self._built[key] = await asyncio.to_thread(_build, description, files)
            self._built.move_to_end(key)
            while len(self._built) > MODELS_KEPT:
                self._built.popitem(last=False)
            return self._built[key]

    async def _tokenizer_files(
        self, stub: worker_pb2_grpc.WorkerServiceAsyncStub, tokenizer_hash: str
    ) -> dict[str, bytes]:
        files: dict[str, bytearray] = {}
        request = pb.GetTokenizerRequest(tokenizer_hash=tokenizer_hash)
        async for piece in stub.GetTokenizer(request):
            files.setdefault(piece.file_name, bytearray()).extend(piece.data)
        return {name: bytes(data) for name, data in files.items()}


def _identity(description: pb.GetModelResponse) -> bytes:
    """What a restart does not change: all but the time at which the model became ready."""
    described = pb.GetModelResponse()
    described.CopyFrom(description)
    described.ClearField("created")
    return described.SerializeToString(deterministic=True)


def _build(description: pb.GetModelResponse, files: dict[str, bytes]) -> ServedModel:
    try:
        defaults = {field.name: value for field, value in description.defaults.ListFields()}
        info = ModelInfo(
            name=description.name,
            fingerprint=description.fingerprint,
            max_model_len=description.max_model_len,
            vocab_size=description.vocab_size,
            tokenizer_hash=description.tokenizer_hash,
            eos_token_ids=tuple(description.eos_token_ids),
            defaults=GenerationDefaults(**defaults),
            created=description.created,
            engine=description.engine,
        )
        return ServedModel.build(info, files)
    except Exception as error:  # a tokenizer can be broken in many ways; each is told the same way
        raise ModelUnusable(f"the model's tokenizer cannot be loaded: {error}") from error
