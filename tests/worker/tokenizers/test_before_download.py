"""``python -m sluice_worker check`` says beforehand what a worker would say at its start."""

from __future__ import annotations

from pathlib import Path

import pytest
from sluice_worker.preflight import Finding, check
from sluice_worker.settings import Settings
from sluice_worker.tokenizer_bundle import TokenizerBundle, TokenizerMissing

from tests.worker.tokenizers.originals import tekken_file, train_sentencepiece, write
from tests.worker.weights.conftest import downloads, zygote  # noqa: F401 - fixtures
from tests.worker.weights.downloads import Downloads, write_model


def tokenizer_finding(model: Path) -> Finding:
    settings = Settings(model_id=str(model), engine="fake")
    return next(finding for finding in check(settings) if finding.subject == "tokenizer")


def without_tokenizer(folder: Path) -> Path:
    model = write_model(folder / "model", 5_000)
    (model / "tokenizer.json").unlink()
    return model


def test_what_can_be_converted_is_well(tmp_path: Path) -> None:
    model = write(without_tokenizer(tmp_path), "tekken.json", tekken_file())
    finding = tokenizer_finding(model)
    assert finding.verdict == "ok"
    assert "made from tekken.json" in finding.text


def test_what_cannot_be_converted_fails_with_the_words_of_the_start(tmp_path: Path) -> None:
    data = train_sentencepiece(model_type="unigram")
    model = write(without_tokenizer(tmp_path), "tokenizer.model", data)
    finding = tokenizer_finding(model)
    with pytest.raises(TokenizerMissing) as caught:
        TokenizerBundle.read(model)
    assert (finding.verdict, finding.text) == ("FAIL", str(caught.value))
    assert "add a tokenizer.json" in finding.text


def test_a_model_on_the_hub_is_judged_before_its_weights_come(
    downloads: Downloads,  # noqa: F811 - the fixture
) -> None:
    (downloads.model / "tokenizer.json").unlink()
    write(downloads.model, "tekken.json", tekken_file())
    run = downloads.start(command="check", ENGINE="fake")
    assert run.wait() == 0, run.text
    assert "made from tekken.json" in run.text
    assert not downloads.hub.downloads("model.safetensors")
