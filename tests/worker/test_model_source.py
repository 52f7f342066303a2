"""Where a worker's model comes from, with real processes and the real hub client."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from sluice_worker.model_source import ModelNotUsable, find_model, served_name
from sluice_worker.settings import Settings

from tests import hub
from tests.processes import gateway, worker
from tests.sse import chat

DEMO = Path(str(files("sluice_worker") / "demo_model"))


def unused() -> None:
    raise AssertionError("nothing had to be downloaded")


def test_names_come_from_the_setting_the_id_or_the_directory(tmp_path: Path) -> None:
    assert served_name(Settings()) == "sluice-demo"
    assert served_name(Settings(model_id="org/name")) == "org/name"
    assert served_name(Settings(model_id=str(tmp_path / "my-model"))) == "my-model"
    assert served_name(Settings(model_id="org/name", served_model_name="mine")) == "mine"


def test_the_demo_is_in_the_package() -> None:
    assert (find_model(Settings(), unused) / "model.safetensors").is_file()


@pytest.mark.parametrize("model_id", ["/nowhere", "./nowhere", "not an id", "a/b/c"])
def test_what_is_no_model_is_refused_by_its_name(model_id: str) -> None:
    with pytest.raises(ModelNotUsable) as caught:
        find_model(Settings(model_id=model_id), unused)
    assert model_id in str(caught.value) or model_id.removeprefix("./") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotUsable, match=r"config\.json"):
        find_model(Settings(model_id=str(tmp_path)), unused)


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
        environment = {
            "HF_ENDPOINT": served.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }
        with worker("org/tiny", **environment) as started, gateway(started.address) as front:
            models = httpx.get(f"{front.url}/v1/models").json()
            assert [model["id"] for model in models["data"]] == ["org/tiny"]
            answer = httpx.get(f"{front.url}/v1/models/org/tiny")
            assert answer.status_code == 200
        fetched = [line for line in served.requests if "GET" in line and "safetensors" in line]
        assert len(fetched) == 1
        assert not [line for line in served.requests if line.endswith(".py")]
    # The cache is all that the next start needs.
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    with worker("org/tiny", **offline) as started:
        started.process.wait_for("ready: org/tiny")


def test_an_unknown_hub_model_is_one_clear_line_and_status_1(tmp_path: Path) -> None:
    with hub.serving({}) as served:
        environment = {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path)}
        with worker("org/missing", **environment) as started:
            assert started.process.wait(30) == 1
            line = started.process.wait_for("failed: .*")[0]
            assert "org/missing" in line
