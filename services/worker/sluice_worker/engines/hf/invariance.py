"""Batch invariance: which row counts give a row the same bits.

A kernel's result for a row may depend on how many rows it gets, since kernels have
other code for remainders. Which counts agree differs from CPU to CPU, so it is
probed when the model is loaded; a step's rows are then padded to the next good count, and
cut into blocks of good counts where they are many.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

BLOCK = 64  # up to here every count is probed
_LARGE = (256, 128)  # counts beyond, tried as blocks: weights are read less often
_GRAIN = 32768  # at::internal::GRAIN_SIZE
_UNROLL = 64  # elements that ATen's widest vector loop takes at once
_SMALL = 16

RowKernel = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class RowCounts:
    """Row counts that agree with each other bit for bit.

    ``good`` has those up to the smallest of ``blocks``. More rows are cut into ``blocks``, which
    are in descending order, and a rest. ``invariant`` is False if the counts do not agree
    well enough to be worth padding to.
    """

    good: tuple[int, ...]
    blocks: tuple[int, ...] = (*_LARGE, BLOCK)
    invariant: bool = True

    def padded(self, rows: int) -> int:
        """The next row count that may be computed."""
        rest = self.cut(rows)[-1] if rows else 0
        if not rest or rest in self.blocks:
            return rows
        return rows - rest + self.good[bisect.bisect_left(self.good, rest)]

    def cut(self, rows: int) -> list[int]:
        """The parts that so many rows are computed in."""
        parts = []
        for block in self.blocks:
            count, rows = divmod(rows, block)
            parts += [block] * count
        return [*parts, rows] if rows else parts


NOT_INVARIANT = RowCounts(tuple(range(1, BLOCK + 1)), invariant=False)


def agreeing_counts(kernel: RowKernel, width: int, seed: int = 0) -> frozenset[int]:
    """The largest set of row counts in which ``kernel`` gives the same rows.

    Of those from 1 to BLOCK, and of larger ones that are good for blocks.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(max(_LARGE), width, generator=generator)
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
    counts = max(groups.values(), key=len)
    part = max(counts)
    starts = range(0, len(x) - part + 1, part)
    parts = torch.cat([kernel(x[start : start + part].clone()) for start in starts])
    large = [
        rows for rows in _LARGE if torch.equal(kernel(x[:rows].clone())[: len(parts)], parts[:rows])
    ]
    return frozenset([*counts, *large])


def common_counts(sets: Iterable[frozenset[int]], widths: Iterable[int] = ()) -> RowCounts:
    """The row counts that are good for every kernel, and for activations of ``widths``."""
    good = set(range(1, BLOCK + 1)).union(_LARGE).intersection(*sets)
    good = {rows for rows in good if all(splits_evenly(rows, width) for width in widths)}
    small = sorted(rows for rows in good if rows <= BLOCK)
    if not small or small[0] > _SMALL:
        return NOT_INVARIANT
    large = [rows for rows in _LARGE if rows in good]
    return RowCounts(tuple(small), (*large, small[-1]))


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
