"""Which rows a step computes: a queue, a batch, and slots and blocks to keep keys in.

Used by the engine's thread alone.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice_worker.engines.base import RowKey
from sluice_worker.engines.hf.batch import Runner, Span
from sluice_worker.engines.hf.kv_cache import KvBudget
from sluice_worker.engines.hf.pace import Pace
from sluice_worker.engines.hf.prefix_cache import Match, PrefixCache
from sluice_worker.engines.hf.row import Row

#: Logits of prompt tokens that a step may have, in bytes; at least a tile's.
SCORED_BYTES = 64 << 20


@dataclass(slots=True)
class Step:
    """What to compute.

    ``counts`` are the tokens of each of ``rows``. ``answering`` are the rows that get a token, and
    ``places`` where their logits are among those of all spans. ``scored`` are the spans that give
    logits of a prompt, each with its row and where its logits begin. ``decoding`` counts the rows
    that are past their prompt.
    """

    spans: list[Span] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    answering: list[Row] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    scored: list[tuple[Row, Span, int]] = field(default_factory=list)
    prompt_tokens: int = 0
    decoding: int = 0
    logits: int = 0

    def add(self, row: Row, spans: list[Span]) -> int:
        """Compute these spans of the row. Gives the count of their tokens."""
        count = sum(len(span.tokens) for span in spans)
        self.rows.append(row)
        self.counts.append(count)
        for span in spans:
            if span.wants_all:
                self.scored.append((row, span, self.logits))
            self.logits += span.logits_count
            if not span.decode:
                self.prompt_tokens += len(span.tokens)
        self.spans += spans
        self.decoding += spans[0].decode
        if spans[-1].wants_logits:
            self.answering.append(row)
            self.places.append(self.logits - 1)
        return count


class Scheduler:
    """Continuous batching: rows join and leave at every step.

    First come, first served, among rows of one priority; those of a lower value come before them,
    so rows of a high value wait for as long as others keep coming. A step decodes every row that
    is past its prefill and prefills up to ``prefill_chunk`` tokens beside it, or fewer, so that it
    takes ``step_seconds`` at most. When blocks run out, what ended rows left is cleared; then the
    last row by priority and arrival goes back to the queue, to be computed again.
    """

    def __init__(
        self,
        runner: Runner,
        budget: KvBudget,
        batch_max: int,
        prefill_chunk: int,
        tile: int,
        *,
        step_seconds: float = math.inf,
        prefix_caching: bool = True,
    ) -> None:
        self._runner = runner
        self._budget = budget
        self._batch_max = batch_max
        self._tile = min(tile, prefill_chunk)
        self.pace = Pace(step_seconds, prefill_chunk, self._tile)
        self._scored_max = max(self._tile, SCORED_BYTES // (4 * runner.vocab_size))
        self._slots = list(range(batch_max))
        enabled = prefix_caching and runner.keeps_prefixes
        self.prefixes = PrefixCache(self._tile, enabled=enabled)
        self.waiting: list[Row] = []
        self.running: list[Row] = []
        self.preemptions = 0

    @property
    def usage(self) -> float:
        """The share of the KV cache that rows are charged for, 0 to 1."""
        used = self._budget.blocks - self._budget.free - self.prefixes.blocks
        return used / self._budget.blocks

    def add(self, rows: Iterable[Row]) -> None:
        """Queue rows."""
        for row in rows:
            bisect.insort(self.waiting, row, key=_rank)

    def drop(self, keys: set[RowKey]) -> None:
        """Forget rows, wherever they are, and free what they hold."""
        if any(row.key in keys for row in self.waiting):
            self.waiting = [row for row in self.waiting if row.key not in keys]
        for row in [row for row in self.running if row.key in keys]:
            self.finish(row)

    def finish(self, row: Row) -> None:
        """Free what a running row holds, but for what later prompts may have use of."""
        self.running.remove(row)
        kept = self.prefixes.held(row.slot)
        if kept:
            self._rest(row, kept)
        else:
            self._clear(row.slot)
            self._budget.give(row.blocks)
        row.slot, row.blocks, row.computed = -1, 0, 0

    def fail(self, row: Row) -> None:
        """Free all that a running row holds: none of it is to be trusted."""
        self.prefixes.forget(row.slot)
        self.finish(row)

    def sound(self, row: Row) -> None:
        """The row's logits were numbers, so what it computed can be trusted."""
        if not row.sound:
            row.sound = True
            self.prefixes.publish(row.slot, row.prompt)

    def plan(self) -> Step | None:
        """The next step, or None if there is nothing to do."""
        self._grow()
        self._admit()
        step = Step()
        for row in self.running:
            if row.decoding:
                step.add(row, row.spans(1, self._tile))
        budget, scored = self.pace.allowed(step.decoding), self._scored_max
        for row in self.running:
            allowed = min(budget, scored) if row.scores_prompt else budget
            if row.decoding or allowed < row.next_chunk(self._tile):
                continue
            count = step.add(row, row.spans(allowed, self._tile))
            budget -= count
            scored -= count if row.scores_prompt else 0
        return step if step.spans else None

    def computed(self, step: Step) -> None:
        """The step's tokens have their keys and values now."""
        for row, count in zip(step.rows, step.counts, strict=True):
            row.computed += count

    def _grow(self) -> None:
        """Charge every running row for its tokens; preempt the last one if need be."""
        for row in list(self.running):
            if row.slot < 0:
                continue  # preempted for one before it
            more = self._budget.needed(row.length) - row.blocks
            while more > 0 and not self._take(more):
                last = self.running[-1]
                self._preempt(last)
                if last is row:
                    break
            else:
                row.blocks += max(more, 0)

    def _preempt(self, row: Row) -> None:
        self.finish(row)
        bisect.insort(self.waiting, row, key=_rank)
        self.preemptions += 1

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._batch_max:
            row = self.waiting[0]
            needed = self._budget.needed(row.length)
            # One block for each running row keeps new rows from being preempted at once.
            reserve = len(self.running)
            if needed + reserve > self._budget.free + self.prefixes.blocks and self.running:
                return
            shared = self._shareable(row)
            sibling = self._sibling(row) if shared else None
            if sibling is not None and sibling.computed < shared:
                return  # its prompt is being computed
            self.waiting.pop(0)
            if sibling is not None:
                match: Match | None = Match(sibling.slot, shared)
            else:
                match = self.prefixes.match(row.prompt, shared)
            self._start(row, needed, match)

    def _start(self, row: Row, blocks: int, match: Match | None) -> None:
        """Give the row a slot and blocks, and what it can have of ``match``."""
        resting = self.prefixes.resting(match.slot) if match else None
        if match and resting is not None and self._goes_on(match, blocks):
            row.slot = match.slot
            self.prefixes.forget(row.slot)
            self._budget.give(resting)
            self._runner.release(row.slot, match.tokens)
            self._charge(row, blocks)
            row.computed = match.tokens
        else:
            self._charge(row, blocks, match.slot if match else None)
            row.slot = self._empty_slot(match.slot if match else None)
            row.computed = 0
            if match and self._runner.copy_prefix(match.slot, row.slot, match.tokens):
                row.computed = match.tokens
        row.sound = False
        if not row.answered:
            row.cached = row.computed
            if self.prefixes.enabled:
                self.prefixes.count(len(row.prompt), row.computed)
        if row.started is None:
            row.started = time.monotonic()
        if row.sampler.grammar is not None:
            row.sampler.grammar.begin()
        bisect.insort(self.running, row, key=_rank)

    def _shareable(self, row: Row) -> int:
        """Prompt tokens that rows of one request can share: all tiles but the last.

        A row that tells of its prompt has to compute it.
        """
        return 0 if row.scores_prompt else (len(row.prompt) - 1) // self._tile * self._tile

    def _sibling(self, row: Row) -> Row | None:
        """The row of the same request that is furthest in their prompt."""
        siblings = [other for other in self.running if other.request is row.request]
        return max(siblings, key=lambda other: other.computed, default=None)

    def _goes_on(self, match: Match, blocks: int) -> bool:
        """Whether to go on in the slot that matches, rather than to copy from it.

        That costs the slot's other tokens, so only if there are none or no room for both.
        """
        if self.prefixes.spent(match):
            return True
        others = self._budget.free + self.prefixes.blocks
        room = others - (self.prefixes.resting(match.slot) or 0) >= blocks
        return not room or (not self._slots and self.prefixes.oldest(match.slot) is None)

    def _charge(self, row: Row, blocks: int, spared: int | None = None) -> None:
        if not self._take(blocks, spared):
            raise RuntimeError("a row was queued that does not fit")
        row.blocks = blocks

    def _take(self, blocks: int, spared: int | None = None) -> bool:
        """Take blocks, if need be those of slots that rest."""
        while not self._budget.take(blocks):
            slot = self.prefixes.oldest(spared)
            if slot is None:
                return False
            self._budget.give(self._clear(slot))
        return True

    def _empty_slot(self, spared: int | None) -> int:
        if not self._slots:
            slot = self.prefixes.oldest(spared)
            assert slot is not None
            self._budget.give(self._clear(slot))
        return self._slots.pop(0)

    def _rest(self, row: Row, tokens: int) -> None:
        """Leave the first ``tokens`` of an ended row in its slot."""
        kept = self._budget.needed(tokens)
        self._runner.release(row.slot, tokens)
        self._budget.give(row.blocks - kept)
        for slot in self.prefixes.rest(row.slot, kept):
            self._budget.give(self._clear(slot))

    def _clear(self, slot: int) -> int:
        """Forget what an unused slot holds. Gives the blocks that it rested on."""
        self._runner.release(slot)
        bisect.insort(self._slots, slot)
        return self.prefixes.forget(slot)


def _rank(row: Row) -> tuple[int, int]:
    return row.rank
