"""Where a worker's model comes from, with real processes and the real hub client."""

from __future__ import annotations

import json
import threading
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from sluice_worker.preflight import check
from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.source import find_model, served_name

from tests import hub
from tests.processes import gateway, worker
from tests.sse import chat
from tests.worker.weights.downloads import write_model
from tests.worker.weights.reports import Remembered

DEMO = Path(str(files("sluice_worker") / "demo_model"))


def found(**settings: str) -> Path:
    return find_model(Settings(**settings), Remembered(), threading.Event())


def test_names_come_from_the_setting_the_id_or_the_directory(tmp_path: Path) -> None:
    assert served_name(Settings()) == "sluice-demo"
    assert served_name(Settings(model_id="org/name")) == "org/name"
    assert served_name(Settings(model_id=str(tmp_path / "my-model"))) == "my-model"
    assert served_name(Settings(model_id="pvc://claim/path/my-model")) == "my-model"
    assert served_name(Settings(model_id="org/name", served_model_name="mine")) == "mine"


def test_the_demo_is_in_the_package() -> None:
    assert (found() / "model.safetensors").is_file()


def test_a_local_model_is_verified_and_never_downloaded(tmp_path: Path) -> None:
    report = Remembered()
    model = write_model(tmp_path / "model", 5_000)
    assert find_model(Settings(model_id=str(model)), report, threading.Event()) == model
    assert report.states == ["verifying"]


def test_a_mounted_volume_is_a_place_for_models(tmp_path: Path) -> None:
    model = write_model(tmp_path / "claim" / "some" / "model", 5_000)
    assert found(model_id="pvc://claim/some/model", models_dir=str(tmp_path)) == model


@pytest.mark.parametrize("model_id", ["pvc://", "pvc:///etc", "pvc://../etc", "pvc://a/../../etc"])
def test_a_mounted_path_does_not_lead_out(model_id: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotUsable, match="not of the form"):
        found(model_id=model_id, models_dir=str(tmp_path))


@pytest.mark.parametrize(
    "model_id",
    [
        *("/nowhere", "./nowhere", "not an id", "a/b/c"),
        *("~nobody-of-that-name/model", "x" * 300, "/" + "x" * 300),  # no home, and no file's name
        *("org/..", "org/a--b", "org/" + "x" * 100, "org/model.git"),  # no ids, by the hub's rules
    ],
)
def test_what_is_no_model_is_refused_by_its_name(model_id: str) -> None:
    assert served_name(Settings(model_id=model_id))
    assert {finding.verdict for finding in check(Settings(model_id=model_id))} == {"FAIL"}
    with pytest.raises(ModelNotUsable) as caught:
        found(model_id=model_id)
    assert Path(model_id).name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotUsable, match=r"config\.json"):
        found(model_id=str(tmp_path))


def test_a_copy_that_was_interrupted_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path, 5_000)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:4_000])
    with pytest.raises(ModelNotUsable, match=r"4000 bytes and should have 5000"):
        found(model_id=str(model))


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    model = write_model(tmp_path, 5_000)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("nowhere")
    with pytest.raises(ModelNotUsable, match="cannot be read") as caught:
        found(model_id=str(model))
    assert str(tmp_path) not in str(caught.value)


def test_a_local_directory_is_served(tmp_path: Path) -> None:
    model = tmp_path / "my-model"
    model.symlink_to(DEMO)
    with worker(model) as started, gateway(started.address) as front:
        answer = httpx.post(
            f"{front.url}/v1/chat/completions", json=chat("Say hello", temperature=0), timeout=30
        ).json()
        assert answer["model"] == "my-model"
        assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_hub_model_is_fetched_once_and_served(tmp_path: Path) -> None:
    with hub.serving({"org/tiny": DEMO}) as served:
        environment = hub.environment(served, tmp_path / "cache")
        with worker("org/tiny", **environment) as started, gateway(started.address) as front:
            models = httpx.get(f"{front.url}/v1/models").json()
            assert [model["id"] for model in models["data"]] == ["org/tiny"]
            answer = httpx.get(f"{front.url}/v1/models/org/tiny")
            assert answer.status_code == 200
        assert len(served.downloads("model.safetensors")) == 1
        assert not [line for line in served.requests if line.endswith(".py")]
    # The cache is all that the next start needs.
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    with worker("org/tiny", **offline) as started:
        started.process.wait_for("ready: org/tiny")


def test_an_unknown_hub_model_is_one_clear_line_and_status_1(tmp_path: Path) -> None:
    with hub.serving({}) as served:
        environment = hub.environment(served, tmp_path)
        with worker("org/missing", **environment) as started:
            assert started.process.wait(30) == 1
            line = started.process.wait_for("failed: .*")[0]
            assert "org/missing" in line


def test_a_model_that_the_engine_cannot_serve_is_not_downloaded_to_its_end(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 3_000_000)
    config = {**json.loads((DEMO / "config.json").read_text())}
    config["quantization_config"] = {"quant_method": "gptq"}
    (model / "config.json").write_text(json.dumps(config))
    with hub.serving({"org/model": model}) as served:
        served.faults.bytes_per_second = 50_000
        with worker("org/model", **hub.environment(served, tmp_path / "cache")) as started:
            assert started.process.wait(60) == 1
            started.process.wait_for("failed: .*quantized.*gptq")
            assert served.sent["model.safetensors"] < 3_000_000


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a/../b"])
def test_a_revision_that_leads_out_of_the_cache_is_refused(revision: str) -> None:
    with pytest.raises(ModelNotUsable, match="MODEL_REVISION"):
        found(model_id="org/model", model_revision=revision)
