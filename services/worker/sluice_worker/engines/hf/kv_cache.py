"""Keys and values of all rows: one slot of virtual memory for each.

The operating system's page table stands in for a block table (vAttention, Prabhu et
al. 2024): every slot has room for the longest row, only pages that were written to are
there, and a row's keys lie in one piece, so that attention reads them without a gather.
"""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass

import torch

from sluice_worker.engines.hf.options import ModelLoadError

_MAP_NORESERVE = 0x4000
_PAGE = mmap.PAGESIZE
_SMALLEST_BLOCK = 16


@dataclass(frozen=True)
class KvShape:
    """``layers`` of ``heads`` key-value heads of ``head_dim``, in float32."""

    layers: int
    heads: int
    head_dim: int

    @property
    def width(self) -> int:
        """Floats of a token in a layer: its keys and its values."""
        return 2 * self.heads * self.head_dim

    @property
    def token_bytes(self) -> int:
        """Bytes of a token in all layers."""
        return self.layers * self.width * 4

    @property
    def parts(self) -> int:
        """Keys and values of each head, which lie apart in a layer."""
        return 2 * self.heads

    @property
    def block_tokens(self) -> int:
        """Tokens of a block: the fewest, from 16, that fill whole pages in each part."""
        tokens = _SMALLEST_BLOCK
        while tokens * self.head_dim * 4 % _PAGE:
            tokens *= 2
        return tokens

    @property
    def block_bytes(self) -> int:
        """Bytes of a block in all layers."""
        return self.block_tokens * self.token_bytes


class KvCache:
    """Memory for ``slots`` rows of up to ``max_len`` tokens.

    A slot is [layers, 2, heads, max_len, head_dim], keys before values: attention goes through one
    head's tokens, which are read in order. A slot that was released is zero, so that whatever a row
    left is never read by the next. ``slot_stride``, ``layer_stride`` and ``part_stride`` are the
    floats from one to the next; ``address`` is that of the first.
    """

    def __init__(self, shape: KvShape, slots: int, max_len: int, align: int = 1) -> None:
        unit = max(align, shape.block_tokens)
        self.shape = shape
        self.max_len = -(-max_len // unit) * unit
        self.slots = slots
        self.part_stride = shape.head_dim * self.max_len
        self.layer_stride = shape.width * self.max_len
        self.slot_stride = shape.layers * self.layer_stride
        self._memory = _reserve(self.slot_stride * 4 * slots)
        flat = torch.frombuffer(self._memory, dtype=torch.float32)
        self.address = flat.data_ptr()
        self._rows = flat.view(-1, shape.head_dim)
        grid = flat.view(slots, shape.layers, 2, shape.heads, self.max_len, shape.head_dim)
        self._grid = grid
        self.keys = [grid[:, layer, 0] for layer in range(shape.layers)]
        self.values = [grid[:, layer, 1] for layer in range(shape.layers)]
        self._part_starts = torch.arange(shape.layers * shape.parts) * self.max_len

    def places(self, slots: list[int], positions: list[int]) -> torch.Tensor:
        """Where these tokens are kept, for ``write``, [layers, tokens * parts]."""
        stride = self.shape.layers * self.shape.parts * self.max_len
        firsts = [slot * stride + position for slot, position in zip(slots, positions, strict=True)]
        starts = self._part_starts.view(self.shape.layers, 1, self.shape.parts)
        return (starts + torch.tensor(firsts).unsqueeze(1)).flatten(1)

    def write(self, places: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keep ``tokens`` [tokens, width], keys before values, at one layer's ``places``."""
        self._rows.index_copy_(0, places, tokens.reshape(-1, self.shape.head_dim))

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first ``tokens`` of slot ``source`` to slot ``target``."""
        self._grid[target, ..., :tokens, :].copy_(self._grid[source, ..., :tokens, :])

    def release(self, slot: int, keep: int = 0) -> None:
        """Give the slot's memory back to the operating system; it reads as zero.

        The first ``keep`` tokens stay.
        """
        size = self.slot_stride * 4
        begin = slot * size
        if not keep:
            self._memory.madvise(mmap.MADV_DONTNEED, begin, size)
            return
        whole = -(-keep // self.shape.block_tokens) * self.shape.block_tokens
        self._grid[slot, ..., keep:whole, :] = 0.0
        token = self.shape.head_dim * 4
        if whole < self.max_len:
            for at in range(begin + whole * token, begin + size, self.part_stride * 4):
                self._memory.madvise(mmap.MADV_DONTNEED, at, (self.max_len - whole) * token)


class KvBudget:
    """Counts blocks of tokens, so that the memory in use stays below a bound."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self.free = blocks

    def needed(self, tokens: int) -> int:
        """Blocks for so many tokens."""
        return -(-tokens // self.block_tokens)

    def take(self, blocks: int) -> bool:
        """Take blocks if there are as many."""
        if blocks > self.free:
            return False
        self.free -= blocks
        return True

    def give(self, blocks: int) -> None:
        """Give blocks back."""
        self.free += blocks
        assert self.free <= self.blocks

    @property
    def usage(self) -> float:
        """The share of blocks that are taken, 0 to 1."""
        return 1.0 - self.free / self.blocks


def _reserve(size: int) -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except (OSError, OverflowError, ValueError) as error:
        raise ModelLoadError(
            f"no address space for {size >> 20} MiB of keys and values",
            "lower BATCH_MAX or MAX_MODEL_LEN",
        ) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
