"""Batch invariance: which row counts give a row the same bits.

A kernel's result for a row may depend on how many rows it gets, since kernels have
other code for remainders. Which counts agree differs from CPU to CPU, so it is
probed when the model is loaded; a step's rows are then padded to the next good count.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

BLOCK = 64
_GRAIN = 32768  # at::internal::GRAIN_SIZE
_UNROLL = 64  # elements that ATen's widest vector loop takes at once
_SMALL = 16

RowKernel = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class RowCounts:
    """The row counts up to ``block`` that agree with each other bit for bit.

    More rows than ``block`` are computed in blocks of it. ``invariant`` is False if
    the counts do not agree well enough to be worth padding to.
    """

    good: tuple[int, ...]
    block: int = BLOCK
    invariant: bool = True

    def padded(self, rows: int) -> int:
        """The next row count that may be computed."""
        full, rest = divmod(rows, self.block)
        if not rest:
            return rows
        return full * self.block + self.good[bisect.bisect_left(self.good, rest)]


NOT_INVARIANT = RowCounts(tuple(range(1, BLOCK + 1)), invariant=False)


def agreeing_counts(kernel: RowKernel, width: int, seed: int = 0) -> frozenset[int]:
    """The largest set of row counts, 1 to BLOCK, in which ``kernel`` gives the same rows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BLOCK, width, generator=generator)
    groups: dict[int, list[int]] = defaultdict(list)
    outputs: dict[int, torch.Tensor] = {}
    for rows in range(BLOCK, 0, -1):
        result = kernel(x[:rows].clone())
        for first, reference in outputs.items():
            if torch.equal(reference[:rows], result):
                groups[first].append(rows)
                break
        else:
            outputs[rows] = result
            groups[rows].append(rows)
    return max(map(frozenset, groups.values()), key=lambda counts: len(counts))


def common_counts(sets: Iterable[frozenset[int]], widths: Iterable[int] = ()) -> RowCounts:
    """The row counts that are good for every kernel, and for activations of ``widths``."""
    good = set(range(1, BLOCK + 1)).intersection(*sets)
    good = {rows for rows in good if all(splits_evenly(rows, width) for width in widths)}
    if not good or min(good) > _SMALL:
        return NOT_INVARIANT
    return RowCounts(tuple(sorted(good)), block=max(good))


def splits_evenly(rows: int, width: int) -> bool:
    """Whether an elementwise op over [rows, width] treats every row alike.

    ATen cuts the elements into one range for each thread and computes what is left of
    a range by scalar code, whose exp differs in its last bit from the vector code's.
    """
    elements = rows * width
    ranges = min(torch.get_num_threads(), -(-elements // _GRAIN))
    if ranges <= 1:
        return True
    return -(-elements // ranges) % _UNROLL == 0 and width % _UNROLL == 0
