"""Hashes, and checkpoints that came with none."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.integrity import check_whole, digest_of, matches

from tests.worker.weights.downloads import safetensors, write_model


def test_a_git_blob_id_is_what_git_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some content\n" * 1000)
    command = ["git", "hash-object", "--no-filters", str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert matches(path, said, lambda count: None)


@pytest.mark.parametrize("size", [0, 1, 100_000, (4 << 20) + 1])
def test_both_kinds_of_digest_are_told_apart_and_right(tmp_path: Path, size: int) -> None:
    path, data, counts = tmp_path / "file", bytes(size), []
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    git = hashlib.sha1(b"blob %d\0" % size + data).hexdigest()
    assert matches(path, sha256, counts.append)
    assert sum(counts) == size
    assert matches(path, git, counts.append)
    assert not matches(path, "0" * 64, counts.append)
    assert not matches(path, "0" * 40, counts.append)
    assert digest_of([data], size, git) == git


def test_a_whole_model_passes(tmp_path: Path) -> None:
    check_whole(write_model(tmp_path / "one", 5_000))
    check_whole(write_model(tmp_path / "two", 5_000, 6_000))


@pytest.mark.parametrize("size", [0, 4, 100, 4_999, 5_001])
def test_a_weight_file_of_a_wrong_size_is_found(tmp_path: Path, size: int) -> None:
    model = write_model(tmp_path, 5_000)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes().ljust(6_000, b"\0")[:size])
    with pytest.raises(ModelNotUsable, match=r"model\.safetensors .*again"):
        check_whole(model)


def test_a_missing_shard_is_found_by_the_index(tmp_path: Path) -> None:
    model = write_model(tmp_path, 5_000, 6_000, 7_000)
    (model / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        ModelNotUsable, match="1 of the model's 3 weight files are missing, model-00002"
    ):
        check_whole(model)


def test_an_index_beside_a_single_file_says_nothing_of_it(tmp_path: Path) -> None:
    """transformers, too, takes the single file then."""
    model = write_model(tmp_path, 5_000, 6_000)
    for shard in model.glob("model-*"):
        shard.unlink()
    (model / "model.safetensors").write_bytes(safetensors(5_000))
    check_whole(model)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": []}',
        b'{"a": {"data_offsets": []}}',
        b'{"a": {"data_offsets": ["x", "y"]}}',
        b'{"a": {"data_offsets": 5}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_header_of_nonsense_is_damage_and_no_crash(tmp_path: Path, header: bytes) -> None:
    model = write_model(tmp_path, 5_000)
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelNotUsable, match=r"model\.safetensors is damaged"):
        check_whole(model)


def test_a_header_length_of_nonsense_is_damage_and_reads_nothing(tmp_path: Path) -> None:
    model = write_model(tmp_path, 5_000)
    (model / "model.safetensors").write_bytes(b"\xff" * 200)
    with pytest.raises(ModelNotUsable, match="damaged"):
        check_whole(model)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000])
def test_an_index_of_nonsense_is_damage_and_no_crash(tmp_path: Path, index: str) -> None:
    model = write_model(tmp_path, 5_000, 6_000)
    (model / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelNotUsable, match=r"index\.json is damaged"):
        check_whole(model)


def test_metadata_is_no_tensor(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    check_whole(tmp_path)
