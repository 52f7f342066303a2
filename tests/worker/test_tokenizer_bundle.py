"""The tokenizer files that a worker sends to gateways."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from sluice_worker.tokenizer_bundle import TokenizerBundle, TokenizerMissing, generation_defaults
from sluice_worker.weights.errors import ModelNotUsable
from tokenizers import Tokenizer

DEMO = Path(str(files("sluice_worker") / "demo_model"))


def write_older_format(folder: Path) -> Path:
    """The demo's tokenizer as GPT-2 has it: vocab.json and merges.txt, no tokenizer.json."""
    model = json.loads((DEMO / "tokenizer.json").read_text())["model"]
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1024}))
    return folder


def test_the_hash_names_the_content() -> None:
    bundle = TokenizerBundle.read(DEMO)
    assert bundle.hash == TokenizerBundle.read(DEMO).hash
    changed = {**bundle.files, "tokenizer_config.json": b"{}"}
    assert TokenizerBundle.of(changed).hash != bundle.hash


def test_a_tokenizer_of_the_older_format_is_converted(tmp_path: Path) -> None:
    bundle = TokenizerBundle.read(write_older_format(tmp_path))
    converted = Tokenizer.from_str(bundle.files["tokenizer.json"].decode())
    original = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    text = "Hello, what is Sluice?"
    assert converted.encode(text).tokens == original.encode(text).tokens
    assert not list(tmp_path.glob("tokenizer.json"))


def test_a_model_without_any_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    write_older_format(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(TokenizerMissing, match=r"no tokenizer: add a tokenizer\.json") as caught:
        TokenizerBundle.read(tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_a_vocabulary_without_its_merges_is_refused(tmp_path: Path) -> None:
    write_older_format(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(TokenizerMissing, match=r"vocab\.json cannot be made one"):
        TokenizerBundle.read(tmp_path)


def test_a_vocabulary_of_a_class_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    write_older_format(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "OwnTokenizer"}')
    with pytest.raises(TokenizerMissing, match=r"vocab\.json cannot be made one") as caught:
        TokenizerBundle.read(tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_a_template_beside_a_whole_tokenizer_is_taken_from_its_older_place(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    assert TokenizerBundle.read(tmp_path).files["chat_template.jinja"] == b"{{ messages }}"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "its own"}')
    assert "chat_template.jinja" not in TokenizerBundle.read(tmp_path).files


@pytest.mark.parametrize("content", ["{", "[]", '{"temperature": "hot"}'])
def test_generation_defaults_that_cannot_be_read_are_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(ModelNotUsable, match=r"generation_config\.json") as caught:
        generation_defaults(tmp_path)
    assert str(tmp_path) not in str(caught.value)
