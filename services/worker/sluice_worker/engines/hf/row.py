"""One row on its way: what it has computed and what comes next."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sluice_worker.engines.base import (
    FinishReason,
    GenerationRequest,
    RowFinish,
    RowKey,
    RowOutput,
    RowSpec,
    RowStart,
)
from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.row_grammar import RowGrammar
from sluice_worker.engines.hf.row_sampler import RowSampler
from sluice_worker.engines.hf.sampler import Choice


@dataclass(eq=False, slots=True)
class Row:
    """A row, waiting or running. Its tokens are the prompt's and those generated.

    ``computed`` tokens have keys and values in ``slot``, ``blocks`` are charged for
    them. ``order`` is the row's place in the line of arrival. ``sound``: since it has its slot,
    its logits were numbers. ``untold`` is the first token of the prompt whose log-probability is
    still to be told, if it is to be.
    """

    request: GenerationRequest
    key: RowKey
    order: int
    prompt: list[int]
    generated: list[int]
    sampler: RowSampler
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    answered: bool = False
    slot: int = -1
    blocks: int = 0
    computed: int = 0
    cached: int = 0
    sound: bool = False
    untold: int | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """The row's place among others, the first one first: by priority, then by arrival."""
        return self.request.priority, self.order

    @property
    def length(self) -> int:
        """Tokens so far, of the prompt and generated."""
        return len(self.prompt) + len(self.generated)

    @property
    def left(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return self.length - self.computed

    @property
    def decoding(self) -> bool:
        """Whether the row is past its prefill."""
        return self.left == 1 and self.computed >= len(self.prompt)

    def spans(self, budget: int, tile: int) -> list[Span]:
        """What to compute next, of at most ``budget`` tokens but whole tiles."""
        spans: list[Span] = []
        at = self.computed
        while at < self.length:
            if at < len(self.prompt):
                end = min(at - at % tile + tile, len(self.prompt))
                if end - at > budget:
                    break
                tokens = self.prompt[at:end]
            else:
                end = min(at + budget, self.length)
                if end == at:
                    break
                first = at - len(self.prompt)
                tokens = self.generated[first : first + end - at]
            decode = at >= len(self.prompt)
            tells = not decode and self._tells(at, end)
            spans.append(Span(self.slot, at, tokens, decode, end == self.length, tells))
            budget -= end - at
            at = end
        return spans

    def _tells(self, at: int, end: int) -> bool:
        """Whether the logits after tokens ``at`` to ``end`` tell of a token that was not told."""
        last = min(end, len(self.prompt) - 1)
        return self.untold is not None and last >= max(self.untold, at + 1)

    @property
    def scores_prompt(self) -> bool:
        """Whether log-probabilities of its prompt are still to be told."""
        return self.untold is not None

    def told(self, upto: int) -> None:
        """The prompt's log-probabilities have been told before token ``upto``."""
        self.untold = None if upto >= len(self.prompt) else upto

    def next_chunk(self, tile: int) -> int:
        """The least budget with which ``spans`` gives anything."""
        at = self.computed
        if at >= len(self.prompt):
            return 1
        return min(at - at % tile + tile, len(self.prompt)) - at

    def take(self, choice: Choice) -> RowOutput:
        """Go on with the token chosen. The output says if that ends the row."""
        token = choice.token
        self.generated.append(token)
        self.sampler.took(token)
        output = RowOutput(self.key, [token])
        if choice.logprobs is not None:
            output.logprobs = [choice.logprobs]
        if not self.answered:
            self.answered = True
            output.start = self._start()
        if token in self.sampler.stop_ids:
            output.finish = RowFinish(FinishReason.STOP, stop_token_id=token)
        elif len(self.generated) >= self.sampler.params.max_tokens:
            output.finish = RowFinish(FinishReason.LENGTH)
        return output

    def _start(self) -> RowStart:
        started = self.submitted if self.started is None else self.started
        return RowStart(
            queue_seconds=started - self.submitted,
            prefill_seconds=time.monotonic() - started,
            cached_tokens=self.cached,
        )


def make_row(
    request: GenerationRequest,
    spec: RowSpec,
    order: int,
    prompt: list[int],
    eos_ids: tuple[int, ...],
    grammar: RowGrammar | None = None,
) -> Row:
    """The row that ``spec`` asks for, waiting."""
    generated = list(spec.generated_ids)
    sampler = RowSampler(request.sampling, spec.seed, eos_ids, prompt, generated, grammar)
    row = Row(request, spec.key, order, prompt, generated, sampler)
    if request.sampling.prompt_logprobs is not None and spec is request.rows[0]:
        row.told(1)
    return row
