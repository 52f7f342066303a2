"""Pickled weights, for those who allow them: rewritten as safetensors, which engines read.

PyTorch's restricted unpickler (``weights_only``) builds tensors and nothing else, so no code of
the file's author runs; it is more code to trust than a safetensors reader all the same.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.selection import pickle_refused

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLE = "pytorch_model.bin"
_INDEX = f"{_PICKLE}.index.json"


@contextlib.contextmanager
def as_safetensors(model_dir: Path, *, allowed: bool) -> Iterator[Path]:
    """A directory with the model in safetensors: ``model_dir``, or a copy while entered.

    The copy is in the folder for temporary files (TMPDIR), and takes as much room as the weights.
    Raises ModelNotUsable for pickled weights that are not ``allowed`` or cannot be read.
    """
    names = _pickles(model_dir)
    if any((model_dir / name).is_file() for name in _SAFETENSORS) or not names:
        yield model_dir  # what has no weights at all is told by the engine
        return
    if not allowed:
        raise pickle_refused()
    with tempfile.TemporaryDirectory(prefix="sluice-weights-") as folder:
        target = Path(folder)
        for path in model_dir.iterdir():
            if path.is_file() and path.name not in (*names, _INDEX):
                (target / path.name).symlink_to(path.resolve())
        _rewrite(model_dir, names, target)
        yield target


def _pickles(model_dir: Path) -> list[str]:
    """The files with pickled weights: those that the index names, or the one there is."""
    index = model_dir / _INDEX
    if index.is_file():
        try:
            return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise _damaged(index) from error
    return [_PICKLE] if (model_dir / _PICKLE).is_file() else []


def _rewrite(model_dir: Path, names: list[str], target: Path) -> None:
    """Write each file's tensors as safetensors, with an index over all of them."""
    from safetensors.torch import save_file  # it brings torch along, which imports slowly

    weight_map: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        tensors = _tensors(model_dir / name)
        shard = f"model-{number:05}-of-{len(names):05}.safetensors"
        save_file(tensors, target / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))


def _tensors(path: Path) -> dict[str, Any]:
    """The tensors in a pickle, each with memory of its own: safetensors shares none."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: tensor.contiguous().clone() for name, tensor in state.items()}
    except Exception as error:  # a pickle can be broken, or forbidden, in many ways
        raise _damaged(path) from error


def _damaged(path: Path) -> ModelNotUsable:
    return ModelNotUsable(
        f"{path.name} is damaged, or holds more than tensors, which is not loaded: "
        "download the model again, or choose one with safetensors"
    )
