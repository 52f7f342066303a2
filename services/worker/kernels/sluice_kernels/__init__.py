"""A decoder's step on x86-64 CPUs, compiled from C: weights packed by panels, and threads.

torch's operators take longer to call than to compute at few rows, and its products of few rows
read weights at half of what memory gives. Here a step is one call. What a row gets depends on its
own tokens alone, bit for bit: not on the rows beside it, nor on how its prompt was cut, nor on
which instructions the CPU has.

The structures below are those of ``src/decoder.h`` and ``src/draw.h``, field by field.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PANEL = 16
"""Outputs of a panel of packed weights: [outputs / PANEL, inputs, PANEL]."""

LAYOUT = 2
"""Counts changes of what the structures mean; the one in ``src/decoder.h`` is the same."""

KINDS = {"float32": 0, "float16": 1, "bfloat16": 2, "int8": 3}
"""What weights can be kept in."""


@dataclass(frozen=True)
class InstructionSet:
    """Instructions that there is a library for: the CPU's flags that it needs."""

    name: str
    flags: frozenset[str]

    @property
    def library(self) -> Path:
        """The file."""
        return Path(__file__).parent / f"libsluice_kernels_{self.name}.so"


_AVX2 = InstructionSet("avx2", frozenset({"avx2", "fma", "f16c"}))
_AVX512 = InstructionSet(
    "avx512",
    # The last one is not used: it tells the processors (Intel's since Ice Lake, AMD's since Zen 4)
    # from those that lower their clock for AVX-512 so far that little is gained.
    _AVX2.flags | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vbmi2"},
)
INSTRUCTION_SETS = {each.name: each for each in (_AVX512, _AVX2)}
"""By name, the fastest first. All compute the same bits."""

_int32, _pointer = ctypes.c_int32, ctypes.c_void_p


class Weights(ctypes.Structure):
    """A linear layer. Scales (int8 alone) and biases are as long as the panels are wide."""

    _fields_ = (
        ("panels", _pointer),
        ("scales", _pointer),
        ("bias", _pointer),
        ("inputs", _int32),
        ("outputs", _int32),
    )


class Layer(ctypes.Structure):
    """One layer of a model."""

    _fields_ = (
        ("input_norm", _pointer),
        ("head_norm", _pointer),
        ("mlp_norm", _pointer),
        ("qkv", Weights),
        ("output", Weights),
        ("gate", Weights),
        ("up", Weights),
        ("down", Weights),
    )


class Model(ctypes.Structure):
    """All of a model."""

    _fields_ = (
        ("layers", _int32),
        ("hidden", _int32),
        ("heads", _int32),
        ("kv_heads", _int32),
        ("head_dim", _int32),
        ("intermediate", _int32),
        ("kind", _int32),
        ("norm_eps", ctypes.c_float),
        ("layer", ctypes.POINTER(Layer)),
        ("norm", _pointer),
        ("head", Weights),
        ("rotations", _pointer),
    )


class Step(ctypes.Structure):
    """Tokens of one step, and where their keys and values are kept."""

    _fields_ = (
        ("rows", _int32),
        ("logits_count", _int32),
        ("slots", _pointer),
        ("positions", _pointer),
        ("logits_rows", _pointer),
        ("x", _pointer),
        ("logits", _pointer),
        ("cache", _pointer),
        ("slot_stride", ctypes.c_int64),
        ("layer_stride", ctypes.c_int64),
        ("part_stride", ctypes.c_int64),
    )


class Draw(ctypes.Structure):
    """What a row's token is drawn by; see ``src/draw.h``."""

    _fields_ = (
        ("logits", _pointer),
        ("share", ctypes.c_double),
        ("top_p", ctypes.c_double),
        ("temperature", ctypes.c_float),
        ("floor", ctypes.c_float),
        ("top_k", _int32),
    )


class Pool:
    """Threads that compute steps and draw tokens, the caller's among them."""

    def __init__(self, instructions: str, threads: int) -> None:
        """Raises LookupError as ``check`` does, OSError if the system has no more threads."""
        self._pool: int | None = None
        self.threads = threads
        check(instructions)
        self._library = _loaded(INSTRUCTION_SETS[instructions])
        self._pool = self._library.pool_open(threads)
        if not self._pool:
            raise OSError(f"no {threads} threads can be started")

    def memory(self, model: Model, rows: int, length: int) -> int:
        """Bytes of working memory for a step of so many rows, of up to ``length`` tokens."""
        model_of = ctypes.byref(model)
        size: int = self._library.decoder_memory(model_of, self.threads, rows, length)
        return size

    def run(self, model: Model, step: Step, length: int, memory: int) -> None:
        """Compute a step, with working memory at the address ``memory``, aligned to 64 bytes.

        One step at a time: the caller sees to that. Raises RuntimeError after ``close``.
        """
        if not self._pool:
            raise RuntimeError("the pool is closed")
        step_of, model_of = ctypes.byref(step), ctypes.byref(model)
        self._library.decoder_step(model_of, self._pool, step_of, length, memory)

    def draw_memory(self, vocabulary: int) -> int:
        """Bytes of working memory for drawing tokens."""
        size: int = self._library.draw_memory(self.threads, vocabulary)
        return size

    def draw(self, draws: Sequence[Draw], vocabulary: int, memory: int) -> list[int]:
        """A token for each, -1 where none can be drawn. Memory and callers as in ``run``."""
        if not self._pool:
            raise RuntimeError("the pool is closed")
        count = len(draws)
        tokens = (_int32 * count)()
        given = (Draw * count)(*draws)
        self._library.draw_tokens(self._pool, given, count, vocabulary, memory, tokens)
        return list(tokens)

    def close(self) -> None:
        """End the threads."""
        pool, self._pool = self._pool, None
        if pool:
            self._library.pool_close(pool)

    def __del__(self) -> None:
        """A pool that nobody has any more ends its threads."""
        self.close()


def fastest() -> str:
    """The name of the fastest instruction set that can be used here.

    Raises LookupError, which says why even the one that needs the least cannot.
    """
    *better, least = INSTRUCTION_SETS
    for name in better:
        with contextlib.suppress(LookupError):
            check(name)
            return name
    check(least)
    return least


def check(instructions: str) -> None:
    """Raises LookupError, which says why, if an instruction set cannot be used here."""
    wanted = INSTRUCTION_SETS.get(instructions)
    if wanted is None:
        raise LookupError(f"they are not for {instructions}")
    if not wanted.library.is_file():
        raise LookupError("they were not built for this platform")
    if missing := wanted.flags.difference(_cpu_flags()):
        raise LookupError(f"this CPU has no {', '.join(sorted(missing))}")
    try:
        layout = _loaded(wanted).kernels_layout()
    except (OSError, AttributeError) as error:
        raise LookupError(f"the library cannot be loaded ({error})") from error
    if layout != _layout():
        raise LookupError("the library is an older one: install again")


def _layout() -> int:
    """What ``kernels_layout`` of a library gives that knows these structures."""
    total = LAYOUT
    for structure in (Draw, Step, Model, Layer):
        total = total * 1000 + ctypes.sizeof(structure)
    return total


@cache
def _loaded(instructions: InstructionSet) -> ctypes.CDLL:
    library = ctypes.CDLL(str(instructions.library))
    library.kernels_layout.restype = ctypes.c_int64
    library.pool_open.restype = _pointer
    library.pool_open.argtypes = (_int32,)
    library.pool_close.restype = None
    library.pool_close.argtypes = (_pointer,)
    library.decoder_memory.restype = ctypes.c_int64
    library.decoder_memory.argtypes = (ctypes.POINTER(Model), _int32, _int32, _int32)
    library.draw_memory.restype = ctypes.c_int64
    library.draw_memory.argtypes = (_int32, _int32)
    library.draw_tokens.restype = None
    library.draw_tokens.argtypes = (
        _pointer,
        ctypes.POINTER(Draw),
        _int32,
        _int32,
        _pointer,
        ctypes.POINTER(_int32),
    )
    library.decoder_step.restype = None
    library.decoder_step.argtypes = (
        ctypes.POINTER(Model),
        _pointer,
        ctypes.POINTER(Step),
        _int32,
        _pointer,
    )
    return library


def _cpu_flags() -> Sequence[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    return next((line.split() for line in lines if line.startswith("flags")), ())
