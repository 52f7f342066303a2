"""Volumes that are full, cannot be written, know no links, or have another tool's cache."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import hub
from tests.worker.weights.downloads import Downloads, Zygote, downloading, wait_until

WEIGHTS = "model.safetensors"
BIG = 3_000_000
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@contextlib.contextmanager
def volume(folder: Path, size: str) -> Iterator[None]:
    """A small file system of its own."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "sluice-test", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@pytest.fixture
def small(tmp_path: Path, zygote: Zygote, request: pytest.FixtureRequest) -> Iterator[Downloads]:
    size = getattr(request, "param", "6m")
    with downloading(tmp_path, zygote, BIG) as downloads, volume(downloads.home, size):
        yield downloads


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return ballast


# Full


@pytest.mark.parametrize("small", ["3500k"], indirect=True)
def test_a_model_that_does_not_fit_is_refused_with_figures_before_it_is_fetched(
    small: Downloads,
) -> None:
    reason = small.fail()
    assert re.search(
        r"needs 3\.0 MB more on the cache volume and 3\.6 MB are free: make room", reason
    )
    assert not small.hub.downloads(WEIGHTS)


def test_a_full_volume_is_said_with_figures(small: Downloads) -> None:
    ballast = fill(small.home)
    assert "needs 3.0 MB more on the cache volume and 0 bytes are free" in small.fail()
    ballast.unlink()
    small.succeed()


def test_a_volume_that_fills_up_under_way_is_one_line_and_goes_on_when_there_is_room(
    small: Downloads,
) -> None:
    small.hub.faults.bytes_per_second = 2_000_000
    run = small.start()
    wait_until(lambda: small.hub.sent[WEIGHTS] > 1_000_000)
    ballast = fill(small.home)
    assert run.wait() == 1, run.text
    assert "sluice_worker: the cache volume cannot be used (No space left on device)" in run.text
    assert "Traceback" not in run.text
    small.check_published()
    assert not list(small.own.glob("lease"))
    small.fail()
    ballast.unlink()
    small.hub.faults.bytes_per_second = 0
    small.succeed()
    assert small.hub.sent[WEIGHTS] < BIG + 1_000_000


@pytest.mark.parametrize("small", ["4500k"], indirect=True)
def test_what_is_there_already_needs_no_room_again(small: Downloads) -> None:
    small.hub.faults.stall_after = 2_000_000
    small.fail(DOWNLOAD_STALL_SECONDS="1")
    small.hub.faults.stall_after = 0
    small.succeed()


@pytest.mark.parametrize("small", ["6200k"], indirect=True)
def test_one_content_with_two_names_needs_its_room_once(small: Downloads) -> None:
    for name in ("vocab.json", "tokenizer.json"):
        (small.model / name).write_bytes(bytes(1_500_000))
    small.succeed()


# Read-only


def test_a_complete_cache_on_a_read_only_volume_is_used(small: Downloads) -> None:
    small.succeed()
    make_read_only(small.home)
    small.succeed()
    small.succeed(**OFFLINE)
    assert small.hub.sent[WEIGHTS] == BIG


def test_a_complete_cache_on_a_read_only_volume_serves_when_the_branch_has_moved(
    small: Downloads,
) -> None:
    small.succeed()
    make_read_only(small.home)
    small.hub.faults.lie_commit = "f" * 40
    (small.model / "config.json").write_text('{"newer": true}')
    run = small.start()
    assert run.wait() == 0, run.text
    assert "an older copy, which is in the cache, is used" in run.text
    assert run.text.splitlines()[-1] == str(small.snapshot)


def test_an_incomplete_cache_on_a_read_only_volume_is_one_line(small: Downloads) -> None:
    small.hub.faults.stall_after = 100_000
    small.fail(DOWNLOAD_STALL_SECONDS="1")
    make_read_only(small.home)
    small.hub.faults.stall_after = 0
    assert "cannot be used (Read-only file system)" in small.fail()


# Another tool's cache


def snapshot_download(downloads: Downloads, **more: str) -> None:
    """As ``hf download`` does."""
    subprocess.run(
        [sys.executable, "-c", "import huggingface_hub as h; h.snapshot_download('org/model')"],
        env={**os.environ, **hub.environment(downloads.hub, downloads.home, **more)},
        check=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("environment", [{}, OFFLINE], ids=["online", "offline"])
def test_what_the_hubs_own_tool_has_downloaded_is_verified_and_used(
    downloads: Downloads, environment: dict[str, str]
) -> None:
    snapshot_download(downloads)
    sent = downloads.hub.sent[WEIGHTS]
    text = downloads.succeed(**environment)
    assert "verifying" in text
    assert "downloading" not in text
    assert downloads.hub.sent[WEIGHTS] == sent
    assert list(downloads.own.glob("complete/*.json"))


def test_what_the_hubs_own_tool_has_left_damaged_is_found(downloads: Downloads) -> None:
    snapshot_download(downloads)
    blob = (downloads.snapshot / WEIGHTS).resolve()
    blob.write_bytes(bytes(blob.stat().st_size))
    assert "is not wholly in the cache" in downloads.fail(**OFFLINE)
    downloads.succeed()


def test_a_part_that_the_hubs_own_tool_has_downloaded_is_completed(downloads: Downloads) -> None:
    weights = downloads.model / WEIGHTS
    weights.rename(downloads.model.with_name("aside"))
    snapshot_download(downloads)
    downloads.model.with_name("aside").rename(weights)
    assert "is not wholly in the cache" in downloads.fail(**OFFLINE)
    downloads.succeed()
    assert len(downloads.hub.downloads("config.json")) == 2  # HEAD and GET, of the other tool


def test_another_tools_cache_on_a_read_only_volume_is_used(small: Downloads) -> None:
    snapshot_download(small)
    make_read_only(small.home)
    small.succeed()
    small.succeed(**OFFLINE)
    assert small.hub.sent[WEIGHTS] == BIG


def test_the_hubs_own_tool_can_use_what_sluice_has_downloaded(downloads: Downloads) -> None:
    downloads.succeed()
    sent = downloads.hub.sent.copy()
    (downloads.model / "README.md").unlink()
    snapshot_download(downloads)
    assert downloads.hub.sent[WEIGHTS] == sent[WEIGHTS]
    snapshot_download(downloads, **OFFLINE)


# No links


def test_a_volume_without_links_holds_the_files_themselves(downloads: Downloads) -> None:
    (downloads.model / "vocab.json").write_bytes((downloads.model / "config.json").read_bytes())
    run = downloads.start(patches=("no links",))
    assert run.wait() == 0, run.text
    downloads.check_content()
    assert not [path for path in downloads.snapshot.iterdir() if path.is_symlink()]
    assert not list(downloads.cache.glob("blobs/*"))
    for environment in ({}, OFFLINE):
        again = downloads.start(patches=("no links",), **environment)
        assert again.wait() == 0, again.text
    assert downloads.hub.sent[WEIGHTS] == (downloads.model / WEIGHTS).stat().st_size
