"""Attention of a step's tokens over their own slots.

A generated token attends by itself: tokens of neighbouring slots share a call as a
batch, keys padded to a common length and masked, as far as that leaves each token's bits
as they are alone (``Sharing``). A prompt's tile is one call, whose shape depends on the
tile alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.kv_cache import KvCache, KvShape

PAD = 32
_CALL_COST = 150  # tokens whose attention costs as much as one more call
_PROBED = 1024  # torch takes keys in blocks of 512; after the second nothing new can come


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which generated tokens may share a call without a change of their bits.

    ``calls``: those whose keys have the same padded length. ``lengths``: others too,
    with the shorter keys padded further. MKL's products are other code for some lengths,
    so that whether a longer padding changes bits depends on the model's shape.
    """

    calls: bool
    lengths: bool


@dataclass(slots=True)
class _Group:
    """Packed tokens ``first`` to ``last`` that share one call."""

    first: int
    last: int
    slot: int
    slots: int
    length: int
    mask: torch.Tensor
    tile: bool


@dataclass(slots=True)
class Layout:
    """A step's tokens in the order in which they are packed."""

    spans: list[Span]
    ids: list[int]
    slots: list[int]
    positions: list[int]
    groups: list[_Group]
    logits_rows: list[int]

    @property
    def tokens(self) -> int:
        """How many tokens the step has."""
        return len(self.ids)


class Attention:
    """Attention for queries [tokens, group, kv_heads, head_dim] over a KvCache.

    ``group`` is query heads to a key-value head. Heads that share keys become rows of
    one product, so that keys are read once.
    """

    def __init__(self, cache: KvCache, group: int, sharing: Sharing) -> None:
        self._cache = cache
        self._group = group
        self.sharing = sharing
        self._steps = torch.arange(cache.max_len)

    def layout(self, spans: Sequence[Span]) -> Layout:
        """Pack the spans: tiles first, then generated tokens by slot."""
        tiles = [span for span in spans if not span.decode]
        decodes = sorted((span for span in spans if span.decode), key=lambda span: span.slot)
        layout = Layout([*tiles, *decodes], [], [], [], [], [])
        for span in layout.spans:
            count = len(span.tokens)
            layout.ids += span.tokens
            layout.slots += [span.slot] * count
            layout.positions += range(span.start, span.start + count)
        ends = {}
        at = 0
        for span in layout.spans:
            at += len(span.tokens)
            ends[id(span)] = at - 1
        for span in spans:
            after = ends[id(span)] + 1
            layout.logits_rows += range(after - span.logits_count, after)
        for span in tiles:
            layout.groups.append(self._tile(span, ends[id(span)]))
        layout.groups += self._decode_groups(decodes, ends)
        return layout

    def attend(
        self, layer: int, query: torch.Tensor, layout: Layout, scale: float | None = None
    ) -> list[torch.Tensor]:
        """Outputs of the groups in order, each [tokens, group * kv_heads * head_dim]."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        outputs = []
        for group in layout.groups:
            q = query[group.first : group.last]
            k = keys[group.slot : group.slot + group.slots, :, : group.length]
            v = values[group.slot : group.slot + group.slots, :, : group.length]
            count = group.last - group.first
            if group.tile:
                q = q.flatten(0, 1).transpose(0, 1).unsqueeze(0)
            else:
                q = q.transpose(1, 2)
                if group.slots != count:
                    k, v = k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)
            out = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=group.mask, scale=scale
            )
            outputs.append(out.transpose(1, 2).reshape(count, -1))
        return outputs

    def _tile(self, span: Span, end: int) -> _Group:
        count = len(span.tokens)
        length = _padded(span.start + count)
        positions = torch.arange(span.start, span.start + count).unsqueeze(1)
        mask = self.mask(positions.repeat_interleave(self._group, 0), length)
        return _Group(end - count + 1, end + 1, span.slot, 1, length, mask[None, None], True)

    def _decode_groups(self, spans: list[Span], ends: dict[int, int]) -> list[_Group]:
        groups: list[_Group] = []
        for run in _runs(spans):
            if len(run[0].tokens) > 1:
                groups += self._replayed(run[0], ends[id(run[0])])
                continue
            lengths = [_padded(span.start + 1) for span in run]
            for i, j in itertools.pairwise(self._cuts(lengths)):
                first = ends[id(run[i])]
                positions = torch.tensor([span.start for span in run[i:j]])
                groups.append(self._decode_group(first, run[i].slot, j - i, positions))
        return groups

    def _replayed(self, span: Span, end: int) -> list[_Group]:
        """Generated tokens of one slot, computed as they were one by one."""
        count = len(span.tokens)
        first = end - count + 1
        positions = torch.arange(span.start, span.start + count)
        if self.sharing.calls and self.sharing.lengths:
            cuts = [0, count]
        else:
            cuts = self._cuts([_padded(position + 1) for position in positions.tolist()])
        return [
            self._decode_group(first + i, span.slot, 1, positions[i:j])
            for i, j in itertools.pairwise(cuts)
        ]

    def _cuts(self, lengths: list[int]) -> list[int]:
        """Where to cut tokens whose keys have these lengths, so that each keeps its bits."""
        if not self.sharing.calls:
            return list(range(len(lengths) + 1))
        if self.sharing.lengths:
            return _cheapest_cuts(lengths)
        changes = (i for i in range(1, len(lengths)) if lengths[i] != lengths[i - 1])
        return [0, *changes, len(lengths)]

    def _decode_group(self, first: int, slot: int, slots: int, positions: torch.Tensor) -> _Group:
        length = _padded(int(positions.max()) + 1)
        mask = self.mask(positions.view(-1, 1, 1, 1), length)
        return _Group(first, first + len(positions), slot, slots, length, mask, False)

    def mask(self, positions: torch.Tensor, length: int) -> torch.Tensor:
        """0 up to each of ``positions`` [..., 1], -inf beyond, [..., length]."""
        mask = torch.zeros(*positions.shape[:-1], length)
        return mask.masked_fill_(self._steps[:length] > positions, -math.inf)


def _padded(length: int) -> int:
    return -(-length // PAD) * PAD


def _runs(spans: list[Span]) -> list[list[Span]]:
    """Spans of one token in slots that follow each other; longer spans by themselves."""
    runs: list[list[Span]] = []
    for span in spans:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and len(span.tokens) == len(last.tokens) == 1
            and span.slot == last.slot + 1
        ):
            runs[-1].append(span)
        else:
            runs.append([span])
    return runs


def _cheapest_cuts(lengths: list[int]) -> list[int]:
    """Where to cut a run so that padding and calls together cost least."""
    best = [0.0]
    before = [0]
    for end in range(1, len(lengths) + 1):
        longest = 0
        cheapest, start = math.inf, 0
        for begin in range(end - 1, -1, -1):
            longest = max(longest, lengths[begin])
            cost = best[begin] + _CALL_COST + longest * (end - begin)
            if cost < cheapest:
                cheapest, start = cost, begin
        best.append(cheapest)
        before.append(start)
    cuts = [len(lengths)]
    while cuts[-1]:
        cuts.append(before[cuts[-1]])
    return cuts[::-1]


def probe_sharing(shape: KvShape, group: int) -> Sharing:
    """What may be shared by tokens of this shape, on this machine."""
    slots = 3
    cache = KvCache(KvShape(1, shape.heads, shape.head_dim), slots, _PROBED, PAD)
    generator = torch.Generator().manual_seed(0)
    for tensor in (cache.keys[0], cache.values[0]):
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    lengths = range(PAD, _PROBED + 1, PAD)
    query = torch.randn(len(lengths), group, shape.heads, shape.head_dim, generator=generator)
    attention = Attention(cache, group, Sharing(calls=True, lengths=True))

    def attend(spans: list[Span], query: torch.Tensor) -> torch.Tensor:
        return torch.cat(attention.attend(0, query, attention.layout(spans)))

    def same_length(length: int) -> bool:
        spans = [Span(slot, length - 1 - slot, [0], True, True) for slot in range(slots)]
        alone = [attend([span], query[i : i + 1]) for i, span in enumerate(spans)]
        return torch.equal(attend(spans, query), torch.cat(alone))

    alone = [
        attend([Span(0, length - 1, [0], True, True)], query[i : i + 1])
        for i, length in enumerate(lengths)
    ]

    def padded_to(count: int) -> bool:
        """Whether tokens at the end of each shorter length keep their bits."""
        positions = torch.tensor(lengths[:count]).view(-1, 1, 1, 1) - 1
        mask = attention.mask(positions, lengths[count - 1])
        group = _Group(0, count, 0, 1, lengths[count - 1], mask, False)
        layout = Layout([], [], [], [], [group], [])
        return torch.equal(attention.attend(0, query, layout)[0], torch.cat(alone[:count]))

    return Sharing(
        calls=all(same_length(length) for length in lengths),
        lengths=all(padded_to(count) for count in range(1, len(lengths) + 1)),
    )
