"""The fingerprint names what is computed, not where it lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sluice_worker.engines.vllm.arguments import engine_config
from sluice_worker.engines.vllm.fingerprint import fingerprint
from sluice_worker.settings import Settings

from tests.engines import vllm_environment
from tests.vllm.adapter import write_adapter
from tests.vllm.conftest import DEMO


def of(model: Path, *arguments: str, adapter: Path | None = None) -> str:
    given = {name.lower(): value for name, value in vllm_environment().items()}
    config = engine_config(Settings(**given), model, {})  # type: ignore[arg-type]
    return fingerprint(config, "0.0", arguments, model, adapter)


def test_the_same_model_elsewhere_has_the_same(tmp_path: Path) -> None:
    assert of(shutil.copytree(DEMO, tmp_path / "other")) == of(DEMO)


def test_arguments_and_an_adapters_strength_change_it(tmp_path: Path) -> None:
    assert of(DEMO, "--kv-cache-dtype", "fp8") != of(DEMO)
    adapter = write_adapter(DEMO, tmp_path / "adapter", 1)
    before = of(DEMO, adapter=adapter)
    assert before != of(DEMO)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 64}))
    assert of(DEMO, adapter=adapter) != before
