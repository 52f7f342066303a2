"""From rows of a request to what vLLM's core takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams as VllmSamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM

from sluice_worker.engines.base import ErrorCode, GenerationRequest, RequestError, RowSpec
from sluice_worker.engines.vllm.sampling import structured_outputs, vllm_sampling_params
from sluice_worker.engines.vllm.thinking import thinking_token_budget
from sluice_worker.engines.vllm.told import one_line


class CoreRequests:
    """Makes them, checked by vLLM."""

    def __init__(self, llm: AsyncLLM, tasks: Sequence[Any]) -> None:
        """``tasks``: what the model supports, as vLLM told it."""
        self._processor = llm.input_processor
        self._config = llm.vllm_config
        self._tasks = tasks

    def made(
        self,
        request: GenerationRequest,
        spec: RowSpec,
        adapter: LoRARequest | None,
        grammar: str | None,
    ) -> EngineCoreRequest:
        """A row as vLLM's core takes it. Raises RequestError.

        vLLM is not asked to check the grammar: it would compile it anew for every row, and hold up
        the service's thread.
        """
        tells_prompt = spec is request.rows[0]
        params = vllm_sampling_params(request.sampling, spec, tells_prompt=tells_prompt)
        params.thinking_token_budget = thinking_token_budget(
            request.sampling.thinking_budget, request.prompt_ids, self._config
        )
        made = self._checked(request, spec, params, adapter)
        if grammar is not None:
            made.sampling_params.structured_outputs = structured_outputs(grammar)
        self._processor.assign_request_id(made)
        return made

    def _checked(
        self,
        request: GenerationRequest,
        spec: RowSpec,
        params: VllmSamplingParams,
        adapter: LoRARequest | None,
    ) -> EngineCoreRequest:
        """The row, checked by vLLM. Raises RequestError."""
        name = f"{request.request_id or 'row'}-{spec.key.session}-{spec.key.row_id}"
        ids = [*request.prompt_ids, *spec.generated_ids]
        try:
            return self._processor.process_inputs(
                name,
                {"type": "token", "prompt_token_ids": ids},
                params,
                supported_tasks=self._tasks,
                lora_request=adapter,
                priority=request.priority,
            )
        except (VLLMClientError, ValueError) as error:
            field = str(getattr(error, "parameter", None) or "")
            raise RequestError(ErrorCode.INVALID_ARGUMENT, one_line(error), field) from error
