"""The images: what is in them, and that they run as the chart runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from tests import hub
from tests.images.conftest import (
    environment,
    image,
    mounted,
    podman,
    running,
    stack,
    wait_ready,
)
from tests.sse import chat

DOCKERFILES = Path(__file__).parents[2] / "docker"
DEMO = Path(__file__).parents[2] / "services/worker/sluice_worker/demo_model"

#: Unpacked, in MB.
BUDGETS = {"gateway": 220, "worker-cpu": 1300}


def unpacked_megabytes(root: Path) -> float:
    """Bytes of all files, each inode once."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = (Path(folder) / name).lstat()
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values()) / 1e6


def packages(root: Path) -> set[str]:
    folder = root / "opt/sluice/lib/python3.11/site-packages"
    return {path.name.lower() for path in folder.iterdir()}


@pytest.mark.parametrize("name", BUDGETS)
def test_an_image_keeps_its_budget(name: str) -> None:
    with mounted(name) as root:
        size = unpacked_megabytes(root)
    print(f"{name}: {size:.0f} MB unpacked")
    assert size <= BUDGETS[name]


def test_the_gateway_has_no_model_code() -> None:
    with mounted("gateway") as root:
        present = packages(root)
    assert "sluice_gateway" in present
    assert not present & {"torch", "transformers", "numpy", "huggingface_hub", "sluice_worker"}


def test_the_gateways_short_way_is_compiled() -> None:
    with mounted("gateway") as root:
        present = packages(root)
        folder = root / "opt/sluice/lib/python3.11/site-packages/sluice_gateway/fast_path"
        compiled = [path.name for path in folder.glob("_compiled.*.so")]
    assert len(compiled) == 1
    assert "ziglang" not in present  # it compiled it, and stayed behind


def test_the_cpu_worker_has_the_demo_and_nothing_of_nvidia() -> None:
    with mounted("worker-cpu") as root:
        present = packages(root)
        demo = root / "opt/sluice/lib/python3.11/site-packages/sluice_worker/demo_model"
        assert (demo / "model.safetensors").stat().st_size > 1e6
        for library in ("avx2", "avx512"):
            kernels = demo.parents[1] / f"sluice_kernels/libsluice_kernels_{library}.so"
            assert kernels.stat().st_size > 1e4
    assert {"torch", "transformers", "sluice_worker"} <= present
    assert "ziglang" not in present  # it compiled the kernels, and stayed behind
    assert not [name for name in present if name.startswith(("nvidia", "triton", "cuda"))]


@pytest.mark.parametrize("name", BUDGETS)
def test_an_image_has_no_compiler_no_git_and_no_pip_of_ours(name: str) -> None:
    with mounted(name) as root:
        tools = {path.name for path in (root / "usr/bin").iterdir()}
        present = packages(root)
    assert not tools & {"gcc", "cc", "g++", "make", "git"}
    assert not {"pip", "setuptools"} & present


@pytest.mark.parametrize("name", BUDGETS)
def test_an_image_runs_as_a_number_with_an_entrypoint_in_exec_form(name: str) -> None:
    config = json.loads(podman("image", "inspect", image(name)))[0]["Config"]
    assert config["User"] == "10001:0"
    assert config["Entrypoint"] == ["python", "-m", f"sluice_{name.partition('-')[0]}"]
    assert config["Labels"]["org.opencontainers.image.title"]


def test_a_stream_goes_through_both_containers_and_sigterm_ends_them_cleanly() -> None:
    with stack() as started:
        wait_ready(started)
        body = chat("Say hello", max_tokens=8, stream=True)
        url = f"{started.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            lines = [line for line in response.iter_lines() if line]
        assert len(lines) > 8
        assert lines[-1] == "data: [DONE]"
        assert started.gateway.stop() == 0
        assert started.worker.stop() == 0


def test_any_user_id_of_group_0_will_do() -> None:
    with stack("--user", "1234560000:0") as started:
        wait_ready(started)


def test_a_hub_model_is_downloaded_into_a_volume_and_a_job_warms_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with hub.serving({"org/tiny": DEMO}) as served:
        settings = {
            "HF_ENDPOINT": served.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MODEL_ID": "org/tiny",
        }
        volume = ("-v", f"{tmp_path}:/cache")
        job = running("worker-cpu", *volume, *environment(**settings), arguments=("download",))
        with job as started:
            podman("wait", started.name)
            assert started.exit_status() == 0, started.logs()
        fetched = len(served.downloads("model.safetensors"))
        assert fetched == 1
        with stack(*volume, **settings) as both:
            wait_ready(both)
        assert len(served.downloads("model.safetensors")) == fetched
