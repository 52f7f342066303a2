from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluice_kernels
from sluice_worker.engines.hf.machine import prepare_libraries

prepare_libraries()  # before torch is imported in this process

import torch  # noqa: E402
from sluice_worker.engines.hf import HfOptions, load  # noqa: E402
from sluice_worker.engines.hf.engine import HfEngine  # noqa: E402
from sluice_worker.engines.hf.linear_int8 import is_exact  # noqa: E402

from tests.worker.hf import models  # noqa: E402

Loader = Callable[..., HfEngine]

needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="the CPU has no bfloat16 instructions"
)
needs_int8 = pytest.mark.skipif(
    not is_exact(), reason="the CPU has no instructions for products of 8 bits"
)


def skip_without_kernels(instructions: str = "avx2") -> None:
    """Skip the test where the compiled kernels cannot use these instructions."""
    try:
        sluice_kernels.check(instructions)
    except LookupError as reason:
        pytest.skip(str(reason))


BY_TORCH = " by torch"
"""Behind a model's kind: the same model without the compiled kernels."""


class Zoo:
    """Saved models and their references, made when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._saved: dict[str, Path] = {}
        self._references: dict[tuple[str, str], models.Reference] = {}

    def path(self, kind: str) -> Path:
        kind = kind.removesuffix(BY_TORCH)
        if kind not in self._saved:
            self._saved[kind] = models.save(models.build(kind), self._directory / kind)
        return self._saved[kind]

    def reference(self, kind: str, dtype: str = "float32") -> models.Reference:
        """transformers' model in the precision that the engine has with ``dtype``."""
        kind = kind.removesuffix(BY_TORCH)
        key = (kind, dtype)
        if key not in self._references:
            model = models.build(kind)
            if dtype in ("float16", "bfloat16"):
                models.round_to_half(model, getattr(torch, dtype))
            if dtype == "int8":
                models.round_to_int8(model)
            self._references[key] = models.Reference(model)
        return self._references[key]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return Zoo(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def engine_of(zoo: Zoo) -> Iterator[Loader]:
    """Loads engines and closes them; the same options give the same engine again."""
    engines: dict[Any, HfEngine] = {}

    def engine(kind: str, **options: Any) -> HfEngine:
        options.setdefault("kernels", "none" if kind.endswith(BY_TORCH) else "fastest")
        key = (kind, tuple(sorted(options.items())))
        if key not in engines:
            engines[key] = load(
                HfOptions(zoo.path(kind), **{"dtype": "float32", "num_threads": 1, **options}),
                lambda *news: None,
            )
        return engines[key]

    yield engine
    for loaded in engines.values():
        loaded.close()
