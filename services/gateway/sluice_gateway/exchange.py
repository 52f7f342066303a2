"""One request on its way: places on workers, then events until every choice has ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from sluice_gateway.abilities import for_request
from sluice_gateway.choice import Choice, EchoingChoice
from sluice_gateway.delivery import Batch, Consumer, Delivery
from sluice_gateway.echo import Echo
from sluice_gateway.errors import ApiError, InvalidRequest
from sluice_gateway.failures import without_place
from sluice_gateway.gateway import Gateway
from sluice_gateway.generation import Generation, Signal
from sluice_gateway.model import STRUCTURED_OUTPUT, ServedModel
from sluice_gateway.output.spec import OutputSpec
from sluice_gateway.placement import Placement
from sluice_gateway.prompt import Prompt
from sluice_gateway.record import RequestRecord
from sluice_gateway.sampling import row_seeds, sampling_params
from sluice_gateway.schema.sampling import SamplingRequest
from sluice_gateway.usage import Usage


class Exchange:
    """All choices of one request, on one or more workers."""

    def __init__(
        self,
        gateway: Gateway,
        model: ServedModel,
        request: SamplingRequest,
        prompts: list[Prompt],
        record: RequestRecord,
    ) -> None:
        self.record = record
        self._gateway = gateway
        self._metrics = gateway.metrics.of_model(model.name)
        self._prompts = prompts
        self._signal = Signal()
        self._generations = [
            Generation(
                list(prompt.ids),
                sampling_params(
                    request,
                    model.info.defaults,
                    prompt.max_tokens,
                    prompt.form.structured,
                    bad_words=prompt.bad_words,
                    thinking=prompt.form.thinking,
                ),
                row_seeds(request.seed, request.candidates),
                self._signal,
                record.request_id,
                model.info.adapter,
                request.priority or 0,
            )
            for prompt in prompts
        ]
        sampling, priority = self._generations[0].sampling, request.priority or 0
        self.model = for_request(model, sampling, priority=priority)
        self._form = prompts[0].form
        record.prepared = time.perf_counter()
        record.model, record.stream = model.name, request.stream
        record.choices = len(prompts) * request.candidates
        record.max_tokens = max(prompt.max_tokens for prompt in prompts)
        self._placements = [
            Placement(gateway, self.model, generation, record) for generation in self._generations
        ]
        self.choices = self._made_choices(request, OutputSpec(request, model, self._form))
        self._live = self.choices
        #: What ended a choice before its time.
        self.failure: Exception | None = None
        self._counted = 0

    def _made_choices(self, request: SamplingRequest, spec: OutputSpec) -> list[Choice]:
        choices: list[Choice] = []
        options: dict[str, Any] = {
            "wants_logprobs": request.top_count is not None,
            "intervals": self._metrics.intervals,
        }
        for prompt, generation in zip(self._prompts, self._generations, strict=True):
            scores, names = generation.prompt_scores, self.model.tokenizer
            echo = Echo(prompt.text, prompt.ids, prompt.offsets, scores, names) if scores else None
            for row in generation.rows:
                index, machine = len(choices), spec.machine()
                choices.append(
                    EchoingChoice(index, row, machine, echo, **options)
                    if echo
                    else Choice(index, row, machine, **options)
                )
        return choices

    @property
    def usage(self) -> Usage:
        """Tokens so far, of all choices."""
        starts = (generation.rows[0].start for generation in self._generations)
        return Usage(
            prompt_tokens=sum(len(prompt.ids) for prompt in self._prompts),
            completion_tokens=sum(choice.completion_tokens for choice in self.choices),
            cached_tokens=sum(start.cached_tokens for start in starts if start),
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self.choices),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold places on workers; on leaving, abort what has not ended.

        Raises ApiError when the request is refused, before a token of it was generated.
        """
        gateway, name = self._gateway, self.model.name
        capacity = gateway.router.capacity(self.model)
        with (
            gateway.admission.admit(name, len(self.choices), capacity),
            contextlib.ExitStack() as places,
        ):
            await self._place_all([places.enter_context(each.held()) for each in self._placements])
            gateway.metrics.before_exposition.add(self._count_generated)
            try:
                with gateway.metrics.streams_active.track_inprogress():
                    yield
            finally:
                gateway.metrics.before_exposition.discard(self._count_generated)
                self._metrics.prompt_tokens.inc(self.usage.prompt_tokens)
                self._count_generated()
                self._fill_record()
        self._count_success()

    async def _place_all(self, placements: list[Placement]) -> None:
        try:
            if len(placements) == 1:
                await placements[0].find()
                return
            async with asyncio.TaskGroup() as group:
                for placement in placements:
                    group.create_task(placement.find())
        except ExceptionGroup as failed:  # the others have been cancelled
            first = failed.exceptions[0]
            raise self._as_asked(first) if isinstance(first, ApiError) else first from None
        except InvalidRequest as error:
            raise self._as_asked(error) from None

    def _as_asked(self, failure: ApiError) -> ApiError:
        """The failure with the client's name of the field, where several mean the same."""
        if failure.param == STRUCTURED_OUTPUT:
            failure.param = self._form.source
            if failure.param != "structured_outputs":  # the grammar is ours
                failure.message = without_place(failure.message)
        return failure

    @property
    def done(self) -> bool:
        """Whether every choice has ended."""
        return not self._live

    async def deliver(self, consumer: Consumer) -> None:
        """Hand batches to ``consumer`` as they come, until all choices have ended.

        When it can take no more, this returns and is to be called again. Raises the ApiError that
        ended a choice, or what the consumer raises.
        """
        delivery = self._signal.listener = Delivery(self, consumer)
        try:
            self._signal.wake()  # what came while nobody listened
            await delivery.ended
        finally:
            self._signal.listener = None

    def wake(self) -> None:
        """Have the consumer asked whether it can take more."""
        self._signal.wake()

    def open_paths(self) -> None:
        """Let tokens take the short way, all before them having been sent."""
        for choice in self._live:
            choice.open_path()

    def advance(self) -> Batch:
        """What is new in the choices, what came before a failure too."""
        batch: Batch = []
        some_ended = False
        for choice in self._live:
            if events := choice.advance():
                batch.append((choice.index, events))
            if choice.done:
                some_ended = True
        if some_ended:
            failures = (self._as_asked(each.failure) for each in self._live if each.failure)
            self.failure = next(failures, None)
            self._live = [choice for choice in self._live if not choice.done]
        if self.record.first_token is None:
            self._look_for_first_token()
        return batch

    def _look_for_first_token(self) -> None:
        """Note it once it is there."""
        begun = next((choice.row for choice in self.choices if choice.row.ids), None)
        if begun is not None:
            self.record.note_first_token(begun.start)
            self._metrics.observe_first_token(self.record)

    def _fill_record(self) -> None:
        """What is known of the request when it is over, however it ended."""
        record, rows = self.record, [choice.row for choice in self.choices]
        record.usage = self.usage
        record.finish_reasons = tuple(each.finish_reason or "" for each in self.choices)
        record.batch_size = next((row.batch_size for row in rows if row.batch_size), None)
        if self._gateway.settings.log_prompts:
            record.prompts, record.answers = self._texts()
        if record.trace is not None and record.trace.wants_content:
            record.trace.prompts, record.trace.answers = self._texts()

    def _texts(self) -> tuple[list[str], list[str]]:
        """What was asked and answered, as the model reads and writes it."""
        decode = self.model.tokenizer.decode
        prompts = [decode(prompt.ids, skip_special_tokens=False) for prompt in self._prompts]
        rows = (choice.row for choice in self.choices)
        return prompts, [decode(row.ids, skip_special_tokens=False) for row in rows]

    def _count_generated(self) -> None:
        generated = sum(choice.completion_tokens for choice in self.choices)
        self._metrics.generation_tokens.inc(generated - self._counted)
        self._counted = generated

    def _count_success(self) -> None:
        metrics = self._metrics
        metrics.observe_end(self.record)
        for choice in self.choices:
            if choice.finish_reason:
                metrics.success[choice.finish_reason].inc()
