"""``python -m sluice_worker check``: one line for each thing, with the mend."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from sluice_worker import preflight
from sluice_worker.preflight import Finding, check
from sluice_worker.settings import Settings

from tests.worker.weights.downloads import Downloads, write_model

DEMO = Path(str(files("sluice_worker") / "demo_model"))
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def findings(
    downloads: Downloads, *arguments: str, **environment: str
) -> tuple[int, dict[str, str]]:
    """The exit status, and each line by its subject."""
    environment.setdefault("ENGINE", "fake")
    run = downloads.start(*arguments, command="check", **environment)
    status = run.wait()
    assert "Traceback" not in run.text, run.text
    lines = run.text.splitlines()
    return status, {line[6:19].strip(): f"{line[:4].strip()} {line[20:]}" for line in lines}


def of(model: Path, **settings: object) -> dict[str, Finding]:
    """The findings for a local directory, in this process."""
    made = Settings(model_id=str(model), engine="fake", **settings)  # type: ignore[arg-type]
    return {finding.subject: finding for finding in check(made)}


def test_a_model_on_the_hub_that_is_well_has_no_failure_and_is_not_downloaded(
    downloads: Downloads,
) -> None:
    (downloads.model / "chat_template.jinja").write_text("{{ messages }}")
    status, found = findings(downloads)
    assert status == 0
    assert list(found) == [
        "model",
        "access",
        "disk",
        "architecture",
        "memory",
        "tokenizer",
        "chat template",
    ]
    assert all(line.startswith("ok ") for line in found.values()), found
    assert "org/model at 0123456 (main): 4 files" in found["model"]
    assert not downloads.hub.downloads("model.safetensors")
    assert not downloads.cache.exists()


def test_the_real_engine_looks_at_the_architecture(downloads: Downloads) -> None:
    for name in ("config.json", "generation_config.json"):
        shutil.copy(DEMO / name, downloads.model)
    status, found = findings(downloads, ENGINE="hf")
    assert found["architecture"].startswith("ok hf serves it"), found
    assert status == 0
    (downloads.model / "config.json").write_text('{"model_type": "no-such-thing"}')
    status, found = findings(downloads, ENGINE="hf")
    assert status == 1
    assert found["architecture"].startswith("FAIL")


def test_what_does_not_exist_is_one_failure(downloads: Downloads) -> None:
    status, found = findings(downloads, "org/missing")
    assert status == 1
    assert list(found) == ["model"]
    assert found["model"].startswith("FAIL the hub has no model org/missing")
    status, found = findings(downloads, "not/a/model")
    assert (status, list(found)) == (1, ["model"])
    status, found = findings(downloads, "/nowhere/at-all")
    assert (status, list(found)) == (1, ["model"])


def test_a_gated_model_is_a_matter_of_access(downloads: Downloads) -> None:
    downloads.hub.faults.token = "hf_good"
    status, found = findings(downloads)
    assert status == 1
    assert "gated and there is no token" in found["access"]
    status, found = findings(downloads, HF_TOKEN="hf_good")
    assert status == 0
    assert found["access"] == "ok gated, and the token has access"


def test_pickled_weights_only_fail_unless_they_are_allowed(downloads: Downloads) -> None:
    weights = downloads.model / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    status, found = findings(downloads)
    assert status == 1
    assert "ALLOW_PICKLE=true" in found["model"]
    assert findings(downloads, ALLOW_PICKLE="true")[0] == 0


def test_a_hub_that_sends_other_content_fails(downloads: Downloads) -> None:
    downloads.hub.faults.lie_digest["config.json"] = "ab" * 20
    status, found = findings(downloads)
    assert status == 1
    assert "other content" in found["access"]


def test_a_hub_that_sends_more_than_it_announced_fails(downloads: Downloads) -> None:
    downloads.hub.faults.lie_size["config.json"] = 3
    status, found = findings(downloads)
    assert status == 1
    assert "more of config.json than it announced" in found["access"]


def test_a_config_that_is_no_json_fails_and_does_not_crash(downloads: Downloads) -> None:
    (downloads.model / "tokenizer_config.json").write_text("{,")
    status, found = findings(downloads)
    assert status == 1
    assert "tokenizer_config.json is damaged" in found["config"]


@pytest.mark.parametrize("environment", [OFFLINE, {}], ids=["offline", "hub-down"])
def test_without_the_hub_a_complete_cache_is_enough(
    downloads: Downloads, environment: dict[str, str]
) -> None:
    downloads.hub.faults.status = 0 if environment else 500
    status, found = findings(downloads, **environment)
    assert (status, list(found)) == (1, ["model"])
    downloads.hub.faults.status = 0
    downloads.succeed()
    downloads.hub.faults.status = 0 if environment else 500
    status, found = findings(downloads, **environment)
    assert status == 0
    assert found["model"].startswith("warn org/model is in the cache")
    assert found["tokenizer"].startswith("ok")


def test_what_is_in_the_cache_needs_no_room(downloads: Downloads) -> None:
    downloads.succeed()
    _, found = findings(downloads)
    assert found["disk"].startswith("ok 0 bytes are to be downloaded")


def test_figures_decide_about_the_disk() -> None:
    assert preflight._disk(10, 20).verdict == "ok"
    finding = preflight._disk(3 * 10**9, 10**9)
    assert finding.verdict == "FAIL"
    assert "3.0 GB are to be downloaded, 1.0 GB are free: make room" in finding.text


def test_memory_that_does_not_suffice_fails_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model", 5_000)
    monkeypatch.setattr(preflight, "free_memory", lambda: 650_000_000)
    assert of(model)["memory"].verdict == "FAIL"
    assert "needs about 700.0 MB, 650.0 MB are free" in of(model)["memory"].text
    monkeypatch.setattr(preflight, "free_memory", lambda: 10**10)
    assert of(model)["memory"].verdict == "ok"


def test_a_local_directory_is_looked_at_as_closely(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000, 6_000)
    found = of(model)
    assert {finding.verdict for finding in found.values()} == {"ok", "warn"}
    assert found["chat template"].verdict == "warn"
    assert "/v1/completions works" in found["chat template"].text
    (model / "model-00001-of-00002.safetensors").unlink()
    assert of(model)["files"].verdict == "FAIL"


def test_a_weight_file_that_cannot_be_read_fails_and_does_not_crash(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("nowhere")
    assert of(model)["files"].verdict == "FAIL"


def test_a_directory_without_weights_that_would_be_loaded_fails(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "ALLOW_PICKLE" in of(model)["files"].text
    assert of(model, allow_pickle=True)["files"].verdict == "ok"
    (model / "pytorch_model.bin").unlink()
    assert of(model)["files"].verdict == "FAIL"


def test_weights_in_several_layouts_are_counted_once(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000)
    once = of(model)["memory"].text.split(",")[0]
    for name in ("pytorch_model.bin", "consolidated.safetensors"):
        with (model / name).open("wb") as file:
            file.truncate(10_000_000_000)
    files = {path.name: path.stat().st_size for path in model.iterdir()}
    assert preflight._Model(files, model).weight_bytes < 10_000
    (model / "consolidated.safetensors").unlink()
    assert of(model)["memory"].text.split(",")[0] == once


def test_a_model_without_a_tokenizer_fails(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000)
    (model / "tokenizer.json").unlink()
    assert of(model)["tokenizer"].verdict == "FAIL"
    (model / "vocab.json").write_text("{}")  # nothing that a tokenizer could be made of
    assert of(model)["tokenizer"].verdict == "FAIL"


def test_a_template_in_the_tokenizers_config_counts(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000)
    config = {"chat_template": "{{ messages }}"}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert of(model)["chat template"].verdict == "ok"


@pytest.mark.parametrize("name", ["chat_template.json", "chat_template.jinja"])
def test_a_template_in_a_file_of_its_own_counts(tmp_path: Path, name: str) -> None:
    model = write_model(tmp_path / "model", 5_000)
    assert of(model)["chat template"].verdict == "warn"
    (model / name).write_text('{"chat_template": "{{ messages }}"}')
    assert of(model)["chat template"].verdict == "ok"


def test_weights_that_grow_in_memory_are_counted_so(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 5_000)
    (model / "config.json").write_text('{"dtype": "bfloat16"}')
    known = preflight._Model({}, model)
    assert preflight._growth(Settings(dtype="auto"), known) == 1.0
    assert preflight._growth(Settings(dtype="bfloat16"), known) == 1.0
    assert preflight._growth(Settings(dtype="float32"), known) == 2.0
    assert preflight._growth(Settings(dtype="int8"), known) == 0.75
    (model / "config.json").write_text('{"torch_dtype": "float32"}')
    assert preflight._growth(Settings(dtype="bfloat16"), known) == 0.5
