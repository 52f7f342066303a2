"""Pickled weights: refused unless allowed, and then served as what they are."""

from __future__ import annotations

import pickle
import shutil
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.pickled import as_safetensors

from tests.processes import gateway, worker
from tests.sse import chat

DEMO = Path(str(files("sluice_worker") / "demo_model"))


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """The demo, with its weights in a pickle."""
    folder = tmp_path / "pickled"
    shutil.copytree(DEMO, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_safetensors_are_taken_as_they_are() -> None:
    with as_safetensors(DEMO, allowed=False) as folder:
        assert folder == DEMO


def test_a_pickle_is_refused_with_what_to_do(pickled: Path) -> None:
    with (
        pytest.raises(ModelNotUsable, match="ALLOW_PICKLE"),
        as_safetensors(pickled, allowed=False),
    ):
        pass


def test_an_allowed_pickle_gives_the_same_tensors_and_leaves_nothing(pickled: Path) -> None:
    with as_safetensors(pickled, allowed=True) as folder:
        (shard,) = folder.glob("*.safetensors")
        tensors = load_file(shard)
        assert (folder / "tokenizer.json").is_file()
        assert not (folder / "pytorch_model.bin").exists()
    assert not folder.exists()
    original = load_file(DEMO / "model.safetensors")
    assert tensors.keys() == original.keys()
    assert all(torch.equal(tensors[name], original[name]) for name in original)


class Bomb:
    """Runs code when it is unpickled by a loader that lets it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not be printed",)


@pytest.mark.parametrize("content", [pickle.dumps({"a": Bomb()}), b"no pickle at all"])
def test_a_pickle_with_more_than_tensors_is_not_loaded(
    content: bytes, pickled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pickled / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelNotUsable, match="damaged"), as_safetensors(pickled, allowed=True):
        pass
    assert "must not" not in capsys.readouterr().out


def test_a_worker_serves_an_allowed_pickle(pickled: Path) -> None:
    body = chat("Say hello", temperature=0, max_tokens=8)
    with worker(pickled, ALLOW_PICKLE="true") as started, gateway(started.address) as front:
        answer = httpx.post(f"{front.url}/v1/chat/completions", json=body, timeout=30).json()
        assert answer["choices"][0]["message"]["content"].startswith("Hello")


def test_a_worker_refuses_a_pickle_in_one_line(pickled: Path) -> None:
    with worker(pickled) as started:
        assert started.process.wait(60) == 1
        started.process.wait_for("failed: the model has pickled weights only.*ALLOW_PICKLE")
