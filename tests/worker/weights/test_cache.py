"""A model's place in the cache: every change is whole, and can be repeated."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sluice_worker.weights import cache as module
from sluice_worker.weights.cache import RepoCache, stamp_of
from sluice_worker.weights.hub_file import HubFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = b"some weights"
FILE = HubFile("model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())
TWIN = HubFile("twin.safetensors", len(DATA), FILE.digest)


@pytest.fixture
def cache(tmp_path: Path) -> RepoCache:
    cache = RepoCache("org/model", tmp_path)
    cache.prepare(COMMIT)
    return cache


def publish(cache: RepoCache, file: HubFile = FILE, data: bytes = DATA) -> Path:
    partial = cache.claim_partial(file, "me")
    partial.write_bytes(data)
    cache.publish(partial, COMMIT, file, stamp_of(partial))
    return cache.snapshot(COMMIT) / file.name


def leftovers(cache: RepoCache) -> list[str]:
    return [path.name for path in cache.root.rglob(".*") if path.name != ".sluice"]


def test_the_layout_is_that_of_the_hubs_own_tools(cache: RepoCache, tmp_path: Path) -> None:
    pointer = publish(cache)
    assert pointer.is_symlink()
    assert pointer.readlink() == Path("../../blobs") / FILE.digest
    assert pointer.read_bytes() == DATA
    assert cache.root == tmp_path / "models--org--model"
    cache.note_commit("main", COMMIT)
    assert (cache.root / "refs" / "main").read_text() == COMMIT
    assert leftovers(cache) == []


def test_revisions_are_remembered_and_commits_are_themselves(cache: RepoCache) -> None:
    assert cache.commit_of("main") is None
    cache.note_commit("refs/pr/1", COMMIT)
    assert cache.commit_of("refs/pr/1") == COMMIT
    assert cache.commit_of(COMMIT) == COMMIT
    (cache.root / "refs" / "main").write_text("half a com")
    assert cache.commit_of("main") is None


def test_a_published_file_is_verified_until_it_is_written_to(cache: RepoCache) -> None:
    pointer = publish(cache)
    assert cache.stored(COMMIT, FILE) == pointer
    assert cache.is_verified(FILE, stamp_of(pointer))
    time.sleep(0.02)
    pointer.write_bytes(DATA[::-1])
    assert not cache.is_verified(FILE, stamp_of(pointer))


def test_what_is_written_while_it_is_hashed_does_not_pass_for_verified(cache: RepoCache) -> None:
    partial = cache.claim_partial(FILE, "me")
    partial.write_bytes(DATA)
    stamp = stamp_of(partial)  # hashing begins
    time.sleep(0.02)
    partial.write_bytes(DATA[::-1])
    cache.publish(partial, COMMIT, FILE, stamp)
    pointer = cache.snapshot(COMMIT) / FILE.name
    assert not cache.is_verified(FILE, stamp_of(pointer))


def test_a_record_that_is_damaged_is_no_record(cache: RepoCache) -> None:
    pointer = publish(cache)
    record = cache.root / ".sluice" / "verified" / f"{FILE.digest}.json"
    for text in ("", "{", "[]", "null", '{"size": 12}'):
        record.write_text(text)
        assert not cache.is_verified(FILE, stamp_of(pointer))


def test_a_file_of_another_size_is_not_stored(cache: RepoCache) -> None:
    pointer = publish(cache)
    pointer.resolve().write_bytes(DATA[:-1])
    assert cache.stored(COMMIT, FILE) is None


def test_the_blob_of_another_commit_is_stored_too_and_named(cache: RepoCache) -> None:
    publish(cache)
    other = "f" * 40
    cache.prepare(other)
    blob = cache.stored(other, FILE)
    assert blob == cache.root / "blobs" / FILE.digest
    cache.note_verified(other, FILE, blob, stamp_of(blob))
    assert (cache.snapshot(other) / FILE.name).read_bytes() == DATA


def test_a_wrong_file_is_discarded_with_its_name_and_record(cache: RepoCache) -> None:
    pointer = publish(cache)
    cache.discard(COMMIT, FILE, pointer, stamp_of(pointer))
    assert cache.stored(COMMIT, FILE) is None
    assert not pointer.is_symlink()
    assert not list((cache.root / ".sluice" / "verified").iterdir())


def test_what_another_process_has_mended_meanwhile_is_not_discarded(cache: RepoCache) -> None:
    pointer = publish(cache, data=DATA[::-1])
    stamp = stamp_of(pointer)  # hashing begins, and takes long
    time.sleep(0.02)
    publish(cache)
    cache.discard(COMMIT, FILE, pointer, stamp)
    assert cache.stored(COMMIT, FILE) == pointer


def test_the_largest_partial_file_is_gone_on_with(cache: RepoCache) -> None:
    folder = cache.root / ".sluice" / "partial"
    for holder, size in (("a", 3), ("b", 7), ("c", 5)):
        (folder / f"{FILE.digest}.{holder}").write_bytes(bytes(size))
    assert cache.partial_bytes(FILE) == 7
    mine = cache.claim_partial(FILE, "me")
    assert mine.stat().st_size == 7
    assert not (folder / f"{FILE.digest}.b").exists()
    assert cache.claim_partial(FILE, "me") == mine
    assert mine.stat().st_size == 7
    cache.discard_partials(FILE)
    assert not list(folder.iterdir())
    assert cache.partial_bytes(FILE) == 0


def test_a_partial_file_that_is_too_long_counts_as_the_whole(cache: RepoCache) -> None:
    cache.claim_partial(FILE, "me").write_bytes(bytes(100))
    assert cache.partial_bytes(FILE) == FILE.size


def test_completion_is_of_a_commit_and_a_selection(cache: RepoCache) -> None:
    cache.note_complete(COMMIT, "-code", [FILE])
    assert cache.complete(COMMIT, "-code") == [FILE]
    assert cache.complete(COMMIT, "") is None
    assert cache.complete("f" * 40, "-code") is None
    record = cache.root / ".sluice" / "complete" / f"{COMMIT}-code.json"
    for text in ("", "{}", "[]", json.dumps({"format": 2, "files": []})):
        record.write_text(text)
        assert cache.complete(COMMIT, "-code") is None


def test_completion_tidies_up_what_nobody_uses_any_more(cache: RepoCache) -> None:
    own = cache.root / ".sluice"
    old = time.time() - module.LEFT_OVER_SECONDS - 60
    for name in ("partial/ab.x", ".lease.dead.x", "verified/.ab.json.x"):
        (own / name).write_bytes(b"x")
        os.utime(own / name, (old, old))
    fresh = own / "partial" / "cd.y"  # of a process that is at work on another commit
    fresh.write_bytes(b"y")
    cache.claim_partial(FILE, "me")
    cache.note_complete(COMMIT, "", [FILE])
    kept = {path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()}
    assert kept == {"partial/cd.y", f"complete/{COMMIT}.json"}


def no_links(*arguments: object) -> None:
    raise OSError(95, "Operation not supported")


def test_without_links_the_file_itself_is_in_the_snapshot(
    cache: RepoCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "symlink_to", no_links)
    pointer = publish(cache)
    assert not pointer.is_symlink()
    assert pointer.read_bytes() == DATA
    assert cache.is_verified(FILE, stamp_of(pointer))
    assert not list((cache.root / "blobs").iterdir())
    publish(cache, TWIN)  # the same content under a second name
    assert cache.stored(COMMIT, FILE) == pointer
    assert cache.stored(COMMIT, TWIN) == cache.snapshot(COMMIT) / TWIN.name


def test_what_another_tool_left_is_found_by_the_names_of_its_blobs(cache: RepoCache) -> None:
    publish(cache)
    (cache.snapshot(COMMIT) / "plain.json").write_text("{}")
    listing = cache.found(COMMIT)
    assert listing is not None
    assert listing.files == (FILE,)
    assert cache.found("f" * 40) is None


@pytest.mark.parametrize("folder", ["verified", "partial"])
def test_a_write_that_fails_leaves_what_was_there(
    cache: RepoCache, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    publish(cache)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    path = cache.root / ".sluice" / folder / "record"
    module._write(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        module._write(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_file_system_that_cannot_sync_directories_will_do(
    cache: RepoCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync: Callable[[Path], None] = module._sync

    def files_only(path: Path) -> None:
        if path.is_dir():
            raise OSError(22, "Invalid argument")
        sync(path)

    monkeypatch.setattr(module, "_sync", files_only)
    assert publish(cache).read_bytes() == DATA


def test_a_damaged_note_of_a_branch_is_as_none(cache: RepoCache) -> None:
    (cache.root / "refs" / "main").write_bytes(b"\xff\xfe\x00")
    assert cache.commit_of("main") is None
    cache.note_commit("main", COMMIT)
    assert cache.commit_of("main") == COMMIT
