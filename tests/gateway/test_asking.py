from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sluice_gateway import __version__
from sluice_gateway.asking import fingerprint_of
from sluice_gateway.model import ModelInfo, ServedModel


def test_the_system_fingerprint_changes_with_any_part_of_the_models(fake_model_dir: Path) -> None:
    files = {path.name: path.read_bytes() for path in fake_model_dir.iterdir()}
    info = ModelInfo("m", 64, 300, fingerprint="hf-fbgemm-fp16-decoder-aaaaaaaaaaaaaaaa")
    first = ServedModel.build(info, files)
    other = ServedModel.build(replace(info, fingerprint=info.fingerprint[:-1] + "b"), files)
    assert fingerprint_of(first) != fingerprint_of(other)
    assert fingerprint_of(first) == fingerprint_of(ServedModel.build(info, files))
    assert fingerprint_of(first).startswith("fp_")


def test_the_system_fingerprint_changes_with_the_version(fake_model_dir: Path) -> None:
    files = {path.name: path.read_bytes() for path in fake_model_dir.iterdir()}
    model = ServedModel.build(ModelInfo("m", 64, 300, fingerprint="hf-a"), files)
    assert fingerprint_of(model) == fingerprint_of(model, __version__)
    assert fingerprint_of(model) != fingerprint_of(model, __version__ + "1")
