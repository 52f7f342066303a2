"""Which rows a step computes: a queue, a batch, and slots and blocks to keep keys in.

Used by the engine's thread alone.
"""

from __future__ import annotations

import bisect
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sluice_worker.engines.base import RowKey
from sluice_worker.engines.hf.batch import Runner, Span
from sluice_worker.engines.hf.kv_cache import KvBudget
from sluice_worker.engines.hf.row import Row


@dataclass(slots=True)
class Step:
    """What to compute: spans, and the rows whose logits they give, in order."""

    spans: list[Span]
    rows: list[Row]
    answering: list[Row]
    counts: list[int]
    prompt_tokens: int


class Scheduler:
    """Continuous batching: rows join and leave at every step.

    First come, first served. A step decodes every row that is past its prefill and
    prefills up to ``prefill_chunk`` tokens beside it. When blocks run out the
    youngest row goes back to the head of the queue, to be computed again.
    """

    def __init__(
        self, runner: Runner, budget: KvBudget, batch_max: int, prefill_chunk: int, tile: int
    ) -> None:
        self._runner = runner
        self._budget = budget
        self._batch_max = batch_max
        self._chunk = prefill_chunk
        self._tile = min(tile, prefill_chunk)
        self._slots = list(range(batch_max))
        self.waiting: deque[Row] = deque()
        self.running: list[Row] = []
        self.preemptions = 0

    @property
    def usage(self) -> float:
        """The share of the KV cache that rows are charged for, 0 to 1."""
        return self._budget.usage

    def add(self, rows: Iterable[Row]) -> None:
        """Queue rows."""
        self.waiting.extend(rows)

    def drop(self, keys: set[RowKey]) -> None:
        """Forget rows, wherever they are, and free what they hold."""
        if any(row.key in keys for row in self.waiting):
            self.waiting = deque(row for row in self.waiting if row.key not in keys)
        for row in [row for row in self.running if row.key in keys]:
            self.finish(row)

    def finish(self, row: Row) -> None:
        """Free what a running row holds."""
        self.running.remove(row)
        self._free(row)

    def plan(self) -> Step | None:
        """The next step, or None if there is nothing to do."""
        self._grow()
        self._admit()
        step = Step([], [], [], [], 0)
        for row in self.running:
            if row.decoding:
                self._plan_row(step, row, 1)
        budget = self._chunk
        for row in self.running:
            if not row.decoding and budget >= row.next_chunk(self._tile):
                budget -= self._plan_row(step, row, budget)
        return step if step.spans else None

    def computed(self, step: Step) -> None:
        """The step's tokens have their keys and values now."""
        for row, count in zip(step.rows, step.counts, strict=True):
            row.computed += count

    def _plan_row(self, step: Step, row: Row, budget: int) -> int:
        spans = row.spans(budget, self._tile)
        count = sum(len(span.tokens) for span in spans)
        step.spans += spans
        step.rows.append(row)
        step.counts.append(count)
        step.prompt_tokens += sum(len(span.tokens) for span in spans if not span.decode)
        if spans[-1].wants_logits:
            step.answering.append(row)
        return count

    def _grow(self) -> None:
        """Charge every running row for its tokens; preempt the youngest if need be."""
        for row in list(self.running):
            if row.slot < 0:
                continue  # preempted for an older row
            more = self._budget.needed(row.length) - row.blocks
            while more > 0 and not self._budget.take(more):
                youngest = max(self.running, key=lambda row: row.order)
                self._preempt(youngest)
                if youngest is row:
                    break
            else:
                row.blocks += max(more, 0)

    def _preempt(self, row: Row) -> None:
        self.finish(row)
        self.waiting.appendleft(row)
        self.preemptions += 1

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._batch_max:
            row = self.waiting[0]
            needed = self._budget.needed(row.length)
            # One block for each running row keeps new rows from being preempted at once.
            if needed + len(self.running) > self._budget.free and self.running:
                return
            shared = self._shareable(row)
            sibling = self._sibling(row) if shared else None
            if sibling is not None and sibling.computed < shared:
                return  # its prompt is being computed
            self.waiting.popleft()
            self._start(row, needed)
            if sibling is not None:
                self._share(row, sibling, shared)

    def _start(self, row: Row, blocks: int) -> None:
        if not self._budget.take(blocks):
            raise RuntimeError("a row was queued that does not fit")
        row.blocks = blocks
        row.slot = self._slots.pop(0)
        row.computed = 0
        if row.started is None:
            row.started = time.monotonic()
        bisect.insort(self.running, row, key=lambda row: row.order)

    def _shareable(self, row: Row) -> int:
        """Prompt tokens that rows of one request can share: all tiles but the last."""
        return (len(row.prompt) - 1) // self._tile * self._tile

    def _sibling(self, row: Row) -> Row | None:
        """The row of the same request that is furthest in their prompt."""
        siblings = [other for other in self.running if other.request is row.request]
        return max(siblings, key=lambda other: other.computed, default=None)

    def _share(self, row: Row, sibling: Row, tokens: int) -> None:
        if self._runner.copy_prefix(sibling.slot, row.slot, tokens):
            row.computed = tokens
            if not row.answered:
                row.cached = tokens

    def _free(self, row: Row) -> None:
        self._runner.release(row.slot)
        bisect.insort(self._slots, row.slot)
        self._budget.give(row.blocks)
        row.slot, row.blocks, row.computed = -1, 0, 0
