"""Which files of a repository are fetched."""

from __future__ import annotations

import pytest
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub_file import HubFile
from sluice_worker.weights.selection import select

CONFIGS = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
INDEX = "model.safetensors.index.json"
SHARDS = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]


def selected(*names: str, pickle: bool = False, code: bool = False) -> set[str]:
    files = [HubFile(name, 10, "0" * 40) for name in (*CONFIGS, *names)]
    return {file.name for file in select(files, pickle=pickle, code=code)} - set(CONFIGS)


def test_a_single_file_of_weights_is_enough() -> None:
    others = [INDEX, *SHARDS, "pytorch_model.bin", "model.fp16.safetensors", "README.md", "x.onnx"]
    assert selected("model.safetensors", *others) == {"model.safetensors"}


def test_shards_come_with_their_index() -> None:
    assert selected(INDEX, *SHARDS) == {INDEX, *SHARDS}


def test_shards_with_the_whole_name_of_the_checkpoint_come_too() -> None:
    shards = {f"model.safetensors-{i:05}-of-00002.safetensors" for i in (1, 2)}
    assert selected(INDEX, *shards) == {INDEX, *shards}


@pytest.mark.parametrize(
    "name",
    [
        "consolidated.safetensors",
        "consolidated-00001-of-00002.safetensors",
        "adapter_model.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "model-00001-of-00002.fp16.safetensors",
        "sub/model-00001-of-00003.safetensors",
        "../model.safetensors",
    ],
)
def test_other_layouts_and_variants_stay_away(name: str) -> None:
    assert name not in selected(INDEX, *SHARDS, name)


def test_tokenizers_and_templates_of_every_kind_come() -> None:
    small = {"vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "special_tokens_map.json",
             "added_tokens.json", "chat_template.jinja", "chat_template.json"}  # fmt: skip
    assert selected("model.safetensors", *small) == {"model.safetensors", *small}


@pytest.mark.parametrize(
    "name", ["tekken.json", "qwen.tiktoken", "tiktoken.model", "spiece.model", "tokenizer.model"]
)
def test_what_a_tokenizer_is_made_from_comes_where_there_is_none(name: str) -> None:
    files = [HubFile(each, 10, "0" * 40) for each in ("config.json", "model.safetensors", name)]
    chosen = [file.name for file in select(files, pickle=False, code=False)]
    assert chosen == sorted({"config.json", "model.safetensors", name})


def test_a_large_tokenizer_stays_away_where_there_is_another() -> None:
    others = ("tekken.json", "qwen.tiktoken", "sub/tekken.json")
    assert selected("model.safetensors", *others) == {"model.safetensors"}


def test_pickles_come_only_where_allowed_and_where_there_is_nothing_else() -> None:
    with pytest.raises(ModelNotUsable, match="ALLOW_PICKLE=true"):
        selected("pytorch_model.bin")
    assert selected("pytorch_model.bin", pickle=True) == {"pytorch_model.bin"}
    assert selected("pytorch_model.bin", "model.safetensors", pickle=True) == {"model.safetensors"}
    shards = {f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)}
    index = "pytorch_model.bin.index.json"
    assert selected(index, *shards, pickle=True) == {index, *shards}


def test_pickled_shards_without_their_index_are_no_weights() -> None:
    with pytest.raises(ModelNotUsable, match="no weights"):
        selected("pytorch_model-00001-of-00002.bin", pickle=True)


def test_code_comes_only_where_trusted() -> None:
    assert selected("model.safetensors", "modeling.py") == {"model.safetensors"}
    assert "modeling.py" in selected("model.safetensors", "modeling.py", code=True)


def test_a_repository_without_a_config_or_weights_holds_no_model() -> None:
    with pytest.raises(ModelNotUsable, match="no weights"):
        selected("README.md")
    with pytest.raises(ModelNotUsable, match=r"no config\.json"):
        select([HubFile("model.safetensors", 1, "0" * 40)], pickle=False, code=False)
