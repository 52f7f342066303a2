"""Fetches what the gateway needs of a worker's model: its description and its tokenizer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_gateway.model import GenerationDefaults, ModelInfo, ServedModel

#: Tokenizers are large; of those that workers no longer have only a few stay.
TOKENIZERS_KEPT = 16

#: What one worker serves, by name: its model, and the adapters of it.
Models = Mapping[str, ServedModel]


class ModelUnusable(Exception):
    """The worker's model cannot be served through this gateway; the message says why."""


class ModelFetcher:
    """Builds ServedModels. Those whose tokenizer files are the same share one copy of them."""

    def __init__(self, tool_format: str = "auto", reasoning_format: str = "auto") -> None:
        """See ServedModel.build for the formats."""
        self._build = partial(_build, tool_format=tool_format, reasoning_format=reasoning_format)
        #: One model of each tokenizer, by the hash of its files.
        self._built: OrderedDict[str, ServedModel] = OrderedDict()
        self._lock = asyncio.Lock()

    async def fetch(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub) -> Models:
        """The worker's model and its adapters.

        Raises AioRpcError, or ModelUnusable for a broken tokenizer.
        """
        description = await stub.GetModel(pb.GetModelRequest())
        info = _info(description)
        key = info.tokenizer_hash
        async with self._lock:
            if key not in self._built:
                files = await self._tokenizer_files(stub, key)
                self._built[key] = await asyncio.to_thread(self._build, info, files)
            self._built.move_to_end(key)
            while len(self._built) > TOKENIZERS_KEPT:
                self._built.popitem(last=False)
            built = self._built[key]
        adapters = [info.of_adapter(each.name, each.fingerprint) for each in description.adapters]
        # Last, the model itself: no adapter takes its name.
        return {each.name: built.described_as(each) for each in (*adapters, info)}

    async def _tokenizer_files(
        self, stub: worker_pb2_grpc.WorkerServiceAsyncStub, tokenizer_hash: str
    ) -> dict[str, bytes]:
        files: dict[str, bytearray] = {}
        request = pb.GetTokenizerRequest(tokenizer_hash=tokenizer_hash)
        async for piece in stub.GetTokenizer(request):
            files.setdefault(piece.file_name, bytearray()).extend(piece.data)
        return {name: bytes(data) for name, data in files.items()}


def _info(description: pb.GetModelResponse) -> ModelInfo:
    defaults = {field.name: value for field, value in description.defaults.ListFields()}
    return ModelInfo(
        name=description.name,
        fingerprint=description.fingerprint,
        max_model_len=description.max_model_len,
        vocab_size=description.vocab_size,
        tokenizer_hash=description.tokenizer_hash,
        eos_token_ids=tuple(description.eos_token_ids),
        defaults=GenerationDefaults(**defaults),
        created=description.created,
        engine=description.engine,
        structured_output=description.structured_output,
        request_fields=frozenset(description.request_fields),
    )


def _build(info: ModelInfo, files: dict[str, bytes], **formats: str) -> ServedModel:
    try:
        return ServedModel.build(info, files, **formats)
    except Exception as error:  # a tokenizer can be broken in many ways; each is told the same way
        raise ModelUnusable(f"the model's tokenizer cannot be loaded: {error}") from error
