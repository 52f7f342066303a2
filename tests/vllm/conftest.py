"""One vLLM for all tests of this folder, with two adapters beside the demo model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.engines.hf import HfOptions, load
from sluice_worker.engines.vllm import load_engine
from sluice_worker.settings import Settings

from tests.engines import vllm_environment
from tests.vllm.adapter import write_adapter
from tests.vllm.driver import Driver, Recorder

DEMO = Path(str(files("sluice_worker") / "demo_model"))


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: write_adapter(DEMO, folder / name, seed)
        for seed, name in enumerate(("pirate", "poet"), start=1)
    }


@pytest.fixture(scope="session")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="session")
def vllm(adapters: dict[str, Path], recorder: Recorder) -> Iterator[Driver]:
    """The demo model in vLLM, in float32."""
    settings = Settings(
        **{name.lower(): value for name, value in vllm_environment().items()},  # type: ignore[arg-type]
        batch_max=32,
        queue_max=64,
        lora_modules=tuple((name, str(path)) for name, path in adapters.items()),
    )
    engine = load_engine(settings, DEMO, recorder, adapters)
    assert recorder.states[-1] == pb.WORKER_STATE_WARMING
    driver = Driver(engine)
    yield driver
    engine.close()
    engine.close()
    assert not driver.failures


@pytest.fixture(scope="session")
def hf() -> Iterator[Driver]:
    """The demo model in the hf engine, in float32."""
    yield from hf_driver(DEMO)


def hf_driver(model: Path) -> Iterator[Driver]:
    """A model in the hf engine, in float32."""
    engine = load(HfOptions(model, dtype="float32", batch_max=32), lambda *news: None)
    yield Driver(engine)
    engine.close()
