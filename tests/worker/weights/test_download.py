"""Downloads against a hub that can do anything wrong, with the real huggingface_hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import hub
from tests.hub import COMMIT
from tests.processes import process
from tests.worker.weights.downloads import (
    REPO,
    Downloads,
    Zygote,
    downloading,
    safetensors,
    wait_until,
    write_model,
)

WEIGHTS = "model.safetensors"
BIG = 400_000
FAST_STALL = {"DOWNLOAD_STALL_SECONDS": "2"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def states(text: str) -> list[str]:
    return re.findall(r"^(\w+) org/model$", text, re.MULTILINE)


# What is fetched, and how it is told


def test_only_what_is_needed_is_fetched_and_once(downloads: Downloads) -> None:
    text = downloads.succeed()
    assert str(downloads.snapshot) in text.splitlines()
    assert {path.name for path in downloads.snapshot.iterdir()} == {
        "config.json",
        "tokenizer.json",
        WEIGHTS,
    }
    assert downloads.hub.sent[WEIGHTS] == BIG
    assert not downloads.hub.downloads("README.md")


def test_the_states_come_in_their_order_for_a_small_model_too(downloads: Downloads) -> None:
    assert states(downloads.succeed()) == ["resolving", "downloading", "verifying"]
    # All is there: nothing is downloaded, nothing hashed, and the order makes sense too.
    assert states(downloads.succeed()) == ["resolving", "verifying"]
    assert downloads.hub.sent[WEIGHTS] == BIG


def test_nothing_that_a_download_needs_for_itself_is_left_behind(downloads: Downloads) -> None:
    downloads.succeed()
    left = [path for path in downloads.own.rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} == {"verified", "complete"}
    assert not [path for path in left if path.name.startswith(".")]


def test_a_real_process_tells_figures_that_move_and_ends(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", 2_500_000)
    with hub.serving({REPO: model}) as served:
        served.faults.bytes_per_second = 400_000
        command = [sys.executable, "-m", "sluice_worker", "download", REPO]
        with process(command, hub.environment(served, tmp_path / "home")) as running:
            line = running.wait_for(r"downloading (\S+ \S+) of 2\.5 MB \((\d+) %\), (.*)\n")
            assert 5 < int(line[2]) < 100
            rate = re.search(r"([\d.]+) (k|M)B/s, (\d+) s left", line[3])
            assert rate, line[0]
            per_second = float(rate[1]) * (1e3 if rate[2] == "k" else 1e6)
            assert 40_000 < per_second < 800_000
            assert int(rate[3]) < 60
            assert running.wait(60) == 0
            assert states(running.text()) == ["resolving", "downloading", "verifying"]


def test_several_files_with_the_same_content_are_one_download(downloads: Downloads) -> None:
    for name in ("vocab.json", "added_tokens.json"):
        (downloads.model / name).write_bytes(b'{"a": 1}' * 20_000)  # more than a progress tick
    assert states(downloads.succeed()) == ["resolving", "downloading", "verifying"]
    assert (
        len(downloads.hub.downloads("vocab.json") + downloads.hub.downloads("added_tokens.json"))
        == 1
    )
    assert len(list(downloads.cache.glob("blobs/*"))) == 4


def test_a_sharded_checkpoint_comes_with_its_index_and_without_other_layouts(
    tmp_path: Path, zygote: Zygote
) -> None:
    with downloading(tmp_path, zygote, 150_000, 160_000, 170_000) as downloads:
        others = (
            "consolidated.safetensors",
            "model.fp16-00001-of-00002.safetensors",
            "adapter_model.safetensors",
            "pytorch_model.bin",
            "model.gguf",
        )
        for name in others:
            (downloads.model / name).write_bytes(safetensors(150_000, 9))
        downloads.succeed()
        names = {path.name for path in downloads.snapshot.iterdir()}
        assert len([name for name in names if name.endswith(".safetensors")]) == 3
        assert "model.safetensors.index.json" in names
        assert not [name for name in others if downloads.hub.downloads(name)]


def test_a_checkpoint_whose_shard_the_hub_lacks_is_refused(tmp_path: Path, zygote: Zygote) -> None:
    with downloading(tmp_path, zygote, 150_000, 160_000) as downloads:
        (downloads.model / "model-00002-of-00002.safetensors").unlink()
        assert "1 of the model's 2 weight files are missing" in downloads.fail()
        assert not list(downloads.own.glob("complete/*"))


def test_pickled_weights_only_come_when_they_are_allowed(downloads: Downloads) -> None:
    (downloads.model / WEIGHTS).rename(downloads.model / "pytorch_model.bin")
    assert "ALLOW_PICKLE=true" in downloads.fail()
    assert not downloads.hub.downloads("pytorch_model.bin")
    downloads.succeed(ALLOW_PICKLE="true")
    assert (downloads.snapshot / "pytorch_model.bin").is_file()


def test_code_only_comes_when_it_is_trusted(downloads: Downloads) -> None:
    (downloads.model / "modeling.py").write_text("pass")
    downloads.succeed()
    assert not (downloads.snapshot / "modeling.py").exists()
    downloads.succeed(TRUST_REMOTE_CODE="true")
    assert (downloads.snapshot / "modeling.py").is_file()
    assert downloads.hub.sent[WEIGHTS] == BIG  # the rest was there


def test_subfolders_and_names_that_lead_out_are_never_fetched(downloads: Downloads) -> None:
    about = {"blobId": "0" * 40, "size": 5}
    names = ["../evil.py", "onnx/model.safetensors", "/etc/evil.py", "..", "a\\..\\b.py", "a\0b.py",
             ".hidden.py", "sub/code.py", "-rf.py"]  # fmt: skip
    downloads.hub.faults.lie_siblings = [{"rfilename": name, **about} for name in names]
    downloads.succeed(TRUST_REMOTE_CODE="true")
    names_there = {path.name for path in downloads.snapshot.iterdir()}
    assert names_there == {"config.json", "tokenizer.json", WEIGHTS}
    assert not [line for line in downloads.hub.requests if "evil" in line or "onnx" in line]


@pytest.mark.parametrize(
    "about",
    [
        {"blobId": "../../../../../victim", "size": 6},
        {"blobId": "0" * 40, "size": -1},
        {"blobId": "0" * 40, "size": "many"},
        {"blobId": None, "size": 5},
    ],
)
def test_a_listing_with_nonsense_for_a_hash_or_a_size_is_refused_and_harms_nothing(
    downloads: Downloads, tmp_path: Path, about: dict[str, object]
) -> None:
    victim = tmp_path / "victim"  # from blobs/, four folders up and one
    victim.write_text("mine!!")
    downloads.hub.faults.lie_siblings = [{"rfilename": "vocab.json", **about}]
    assert "makes no sense" in downloads.fail()
    assert victim.read_text() == "mine!!"


def test_a_commit_that_leads_out_is_refused(downloads: Downloads, tmp_path: Path) -> None:
    downloads.hub.faults.lie_commit = "../../../../outside"
    assert "makes no sense" in downloads.fail()
    assert not (tmp_path / "outside").exists()


# A bad network


def test_cut_connections_are_gone_on_with_where_they_broke(downloads: Downloads) -> None:
    downloads.hub.faults.cut_after = 130_000
    downloads.succeed()
    assert len(downloads.hub.downloads(WEIGHTS)) >= 3
    assert downloads.hub.sent[WEIGHTS] <= BIG + 40_000


def test_a_hub_that_ignores_ranges_is_read_again_from_the_start(downloads: Downloads) -> None:
    downloads.hub.faults.cut_after = 150_000
    downloads.hub.faults.ignore_range = True
    run = downloads.start()
    wait_until(lambda: len(downloads.hub.downloads(WEIGHTS)) > 1)
    downloads.hub.faults.cut_after = 0
    assert run.wait() == 0, run.text
    downloads.check_content()
    assert "wrong content" not in run.text


def test_bytes_that_come_a_second_time_count_as_life(downloads: Downloads) -> None:
    downloads.hub.faults.ignore_range = True
    downloads.hub.faults.cut_after = 350_000
    run = downloads.start(**FAST_STALL)
    wait_until(lambda: len(downloads.hub.downloads(WEIGHTS)) > 1)
    downloads.hub.faults.cut_after = 0
    downloads.hub.faults.bytes_per_second = 120_000  # longer than the watchdog's time
    assert run.wait() == 0, run.text


def test_a_stalled_download_fails_with_a_reason_and_goes_on_next_time(downloads: Downloads) -> None:
    downloads.hub.faults.stall_after = 130_000
    reason = downloads.fail(DOWNLOAD_STALL_SECONDS="1")
    assert re.search(r"has stood still for \d+ s \(DOWNLOAD_STALL_SECONDS\)", reason)
    there = max(path.stat().st_size for path in downloads.partials())
    assert there >= 130_000
    downloads.hub.faults.stall_after = 0
    before = downloads.hub.sent[WEIGHTS]
    downloads.succeed()
    assert downloads.hub.sent[WEIGHTS] - before == BIG - there


def test_a_connection_that_stands_still_is_made_anew(downloads: Downloads) -> None:
    downloads.hub.faults.stall_after = 200_000
    downloads.succeed(DOWNLOAD_STALL_SECONDS="3")  # each request reads for a second of silence
    assert downloads.hub.sent[WEIGHTS] <= BIG + 40_000
    assert len(downloads.hub.downloads(WEIGHTS)) >= 2


def test_large_files_come_from_another_host_which_is_not_told_the_token(
    downloads: Downloads,
) -> None:
    downloads.hub.faults.cdn = True
    downloads.hub.faults.token = "hf_secret"
    downloads.hub.faults.cut_after = 130_000
    text = downloads.succeed(HF_TOKEN="hf_secret")
    assert set(downloads.hub.cdn_tokens) == {""}
    assert downloads.hub.sent[WEIGHTS] <= BIG + 40_000
    assert "hf_secret" not in text


def test_a_hub_that_cannot_be_reached_is_said_at_once_and_then_a_failure(
    downloads: Downloads,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        downloads.hub.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        run = downloads.start(**FAST_STALL)
        run.wait_for("trying again")
        assert run.wait() == 1
        assert "the hub cannot be reached (no connection)" in run.text


def test_a_name_that_cannot_be_resolved_is_said_so(downloads: Downloads) -> None:
    downloads.hub.url = "http://no-such-host.invalid"
    assert "cannot be reached" in downloads.fail(DOWNLOAD_STALL_SECONDS="0.1")


@pytest.mark.parametrize("address", ["hub.example.com", "http://hub:port", "file:///etc"])
def test_an_endpoint_that_is_no_address_is_said_so(downloads: Downloads, address: str) -> None:
    downloads.hub.url = address
    assert "HF_ENDPOINT" in downloads.fail()


def test_a_login_page_in_place_of_the_hub_is_said_so(downloads: Downloads) -> None:
    downloads.hub.faults.page = b"<html>Please log in</html>"
    assert "the hub's answer makes no sense" in downloads.fail()
    downloads.hub.faults.page = b"[]"
    assert "the hub's answer makes no sense" in downloads.fail()


def test_a_hub_that_never_answers_does_not_hold_up_the_end(downloads: Downloads) -> None:
    downloads.hub.faults.silent = True
    run = downloads.start()
    wait_until(lambda: downloads.hub.requests)
    run.kill(signal.SIGTERM)
    assert run.wait(5) == 130  # it gives up asking after 10 s


# What the hub refuses


def test_a_wrong_id_is_one_line(downloads: Downloads) -> None:
    reason = downloads.fail("org/missing")
    assert "the hub has no model org/missing, or it is private" in reason
    assert len(downloads.hub.requests) == 1


def test_a_wrong_revision_is_one_line(downloads: Downloads) -> None:
    reason = downloads.fail(MODEL_REVISION="nope")
    assert "has no revision nope: check MODEL_REVISION" in reason


def test_a_pinned_commit_that_is_complete_is_not_asked_for_again(downloads: Downloads) -> None:
    downloads.succeed(MODEL_REVISION=COMMIT)
    asked = len(downloads.hub.requests)
    downloads.succeed(MODEL_REVISION=COMMIT)
    assert len(downloads.hub.requests) == asked


def test_a_gated_model_wants_a_token_that_has_access(downloads: Downloads, tmp_path: Path) -> None:
    downloads.hub.faults.token = "hf_good"
    assert "gated and there is no token" in downloads.fail()
    assert "the token's account has no access" in downloads.fail(HF_TOKEN="hf_bad")
    file = tmp_path / "token"
    file.write_text("hf_good\n")
    downloads.succeed(HF_TOKEN_PATH=str(file))


def test_a_token_of_the_environment_opens_a_gated_model(downloads: Downloads) -> None:
    downloads.hub.faults.token = "hf_good"
    assert "hf_good" not in downloads.succeed(HF_TOKEN="hf_good")


@pytest.mark.parametrize(("status", "reason"), [(401, "private"), (403, "needs a token")])
@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_a_refusal_ends_it_at_once_with_a_reason(
    downloads: Downloads, status: int, reason: str, where: str
) -> None:
    downloads.hub.faults.status = status
    downloads.hub.faults.status_for = where
    assert reason in downloads.fail()
    assert len([line for line in downloads.hub.requests if where in line]) <= 3  # one a file


def test_a_file_that_is_gone_ends_it_with_a_reason(downloads: Downloads) -> None:
    downloads.hub.faults.lie_siblings = [{"rfilename": "vocab.json", "blobId": "0" * 40, "size": 5}]
    assert "is gone from the hub" in downloads.fail()


@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_errors_that_pass_are_waited_out(downloads: Downloads, where: str) -> None:
    downloads.hub.faults.status = 503
    downloads.hub.faults.status_times = 3
    downloads.hub.faults.status_for = where
    text = downloads.succeed()
    assert "the hub answers with an error (503)" in text


@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_errors_that_do_not_pass_end_it_when_the_watchdog_says_so(
    downloads: Downloads, where: str
) -> None:
    downloads.hub.faults.status = 500
    downloads.hub.faults.status_for = where
    assert "the hub answers with an error (500)" in downloads.fail(DOWNLOAD_STALL_SECONDS="1")


@pytest.mark.parametrize("header", ["retry_after", "rate_limit"])
@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_a_pause_that_the_hub_asks_for_is_kept_and_is_no_stall(
    downloads: Downloads, where: str, header: str
) -> None:
    faults = downloads.hub.faults
    faults.status, faults.status_times, faults.status_for = 429, 1, where
    setattr(faults, header, "3" if header == "retry_after" else '"resolvers";r=0;t=3')
    began = time.monotonic()
    text = downloads.succeed(DOWNLOAD_STALL_SECONDS="1")
    assert time.monotonic() - began >= 3
    assert "fewer requests (429)" in text


def test_an_absurd_pause_does_not_crash_it(downloads: Downloads) -> None:
    downloads.hub.faults.status, downloads.hub.faults.retry_after = 429, "inf"
    run = downloads.start()
    run.wait_for("trying again")
    run.kill(signal.SIGTERM)
    assert run.wait(10) == 130
    assert "Traceback" not in run.text


# Without the hub


def test_offline_without_a_cache_is_one_line(downloads: Downloads) -> None:
    assert "HF_HUB_OFFLINE is set and org/model is not wholly in the cache" in downloads.fail(
        **OFFLINE
    )
    assert not downloads.hub.requests


def test_offline_a_complete_cache_is_used_without_a_word(downloads: Downloads) -> None:
    downloads.succeed()
    asked = len(downloads.hub.requests)
    text = downloads.succeed(**OFFLINE)
    assert len(downloads.hub.requests) == asked
    assert "WARNING" not in text
    assert "not wholly" not in text


def test_a_complete_cache_is_used_with_a_warning_when_the_hub_is_down(
    downloads: Downloads,
) -> None:
    downloads.succeed()
    downloads.hub.faults.status = 500
    asked = len(downloads.hub.requests)
    assert "the cached copy is used" in downloads.succeed()
    assert len(downloads.hub.requests) == asked + 1


def test_offline_a_part_of_a_model_is_not_taken_for_the_whole(downloads: Downloads) -> None:
    downloads.hub.faults.stall_after = 100_000
    downloads.fail(DOWNLOAD_STALL_SECONDS="1")
    assert "is not wholly in the cache" in downloads.fail(**OFFLINE)


def test_a_branch_that_moved_is_downloaded_anew_and_what_is_the_same_is_not(
    downloads: Downloads,
) -> None:
    downloads.succeed()
    (downloads.model / "config.json").write_text('{"new": true}')
    downloads.hub.faults.lie_commit = "f" * 40
    run = downloads.start()
    assert run.wait() == 0, run.text
    snapshot = downloads.snapshot.with_name("f" * 40)
    assert json.loads((snapshot / "config.json").read_text()) == {"new": True}
    assert (snapshot / WEIGHTS).stat().st_size == BIG
    assert downloads.hub.sent[WEIGHTS] == BIG


# Lies


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
@pytest.mark.parametrize("by", [-10, 10])
def test_a_size_that_is_not_true_is_refused_after_a_few_tries(
    downloads: Downloads, name: str, by: int
) -> None:
    downloads.hub.faults.lie_size[name] = (downloads.model / name).stat().st_size + by
    assert f"{name} came 2 times with other content" in downloads.fail()
    assert not (downloads.snapshot / name).exists()
    assert len(downloads.hub.downloads(name)) <= 6


@pytest.mark.parametrize(("name", "digits"), [("config.json", 40), (WEIGHTS, 64)])
def test_a_wrong_hash_is_refused_after_a_few_tries_and_never_published(
    downloads: Downloads, name: str, digits: int
) -> None:
    downloads.hub.faults.lie_digest[name] = "ab" * (digits // 2)
    assert f"{name} came 2 times with other content" in downloads.fail()
    assert not (downloads.snapshot / name).exists()
    assert not (downloads.cache / "blobs" / ("ab" * (digits // 2))).exists()
    assert len(downloads.hub.downloads(name)) == 2
    assert not [path for path in downloads.partials() if path.name.startswith("ab")]


def test_a_byte_that_was_flipped_on_its_way_is_fetched_again(downloads: Downloads) -> None:
    downloads.hub.faults.flips[WEIGHTS] = 1
    text = downloads.succeed()
    assert "came with wrong content and is fetched again" in text
    assert downloads.hub.sent[WEIGHTS] == 2 * BIG
    assert states(text)[-1] == "verifying"


# Damage on the disk


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    time.sleep(0.02)  # longer than the file system's clock ticks
    path.write_bytes(data)


def blob_of(downloads: Downloads, name: str) -> Path:
    return (downloads.snapshot / name).resolve()


def test_a_flipped_byte_in_a_partial_file_is_found_and_mended(downloads: Downloads) -> None:
    downloads.hub.faults.stall_after = 200_000
    downloads.fail(DOWNLOAD_STALL_SECONDS="1")
    downloads.hub.faults.stall_after = 0
    flip(max(downloads.partials(), key=lambda path: path.stat().st_size))
    assert "came with wrong content and is fetched again" in downloads.succeed()


def test_several_damaged_partial_files_cost_one_try_only(downloads: Downloads) -> None:
    downloads.hub.faults.stall_after = 200_000
    downloads.fail(DOWNLOAD_STALL_SECONDS="1")
    downloads.hub.faults.stall_after = 0
    partial = max(downloads.partials(), key=lambda path: path.stat().st_size)
    flip(partial)
    for suffix in ("aa", "bb", "cc"):
        shutil.copy(partial, partial.with_suffix(f".{suffix}"))
    assert states(downloads.succeed())[-1] == "verifying"


def test_a_partial_file_that_is_too_long_is_not_used(downloads: Downloads) -> None:
    downloads.hub.faults.stall_after = 200_000
    downloads.fail(DOWNLOAD_STALL_SECONDS="1")
    downloads.hub.faults.stall_after = 0
    partial = max(downloads.partials(), key=lambda path: path.stat().st_size)
    partial.write_bytes(bytes(BIG + 1))
    downloads.succeed()


def test_a_flipped_byte_in_a_published_file_is_found_and_it_alone_is_fetched(
    downloads: Downloads,
) -> None:
    downloads.succeed()
    flip(blob_of(downloads, WEIGHTS))
    text = downloads.succeed()
    assert "model.safetensors in the cache is damaged and is removed" in text
    assert len(downloads.hub.downloads(WEIGHTS)) == 2
    assert len(downloads.hub.downloads("config.json")) == 1


def test_a_flipped_byte_is_found_offline_and_the_model_refused(downloads: Downloads) -> None:
    downloads.succeed()
    flip(blob_of(downloads, WEIGHTS))
    assert "is not wholly in the cache" in downloads.fail(**OFFLINE)
    assert not (downloads.snapshot / WEIGHTS).exists()
    downloads.succeed()  # and the network mends it


@pytest.mark.parametrize("by", [-5, 5])
def test_a_blob_of_another_size_is_fetched_again(downloads: Downloads, by: int) -> None:
    downloads.succeed()
    blob = blob_of(downloads, WEIGHTS)
    blob.write_bytes(blob.read_bytes().ljust(BIG + 5)[: BIG + by])
    downloads.succeed()
    assert len(downloads.hub.downloads(WEIGHTS)) == 2


def test_a_damaged_file_with_a_piece_of_it_on_its_way_still_ends_in_verifying(
    downloads: Downloads,
) -> None:
    downloads.succeed()
    flip(blob_of(downloads, WEIGHTS))
    partial = downloads.own / "partial" / f"{blob_of(downloads, WEIGHTS).name}.dead"
    partial.write_bytes((downloads.model / WEIGHTS).read_bytes()[:300_000])
    text = downloads.succeed()
    assert states(text)[-1] == "verifying"
    assert downloads.hub.sent[WEIGHTS] == BIG + 100_000


# Being called off


def test_sigterm_ends_it_promptly_and_the_next_one_starts_at_once(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", BIG)
    with hub.serving({REPO: model}) as served:
        served.faults.bytes_per_second = 20_000
        command = [sys.executable, "-m", "sluice_worker", "download", REPO]
        with process(command, hub.environment(served, tmp_path / "home")) as running:
            wait_until(lambda: served.sent[WEIGHTS] > 30_000)
            began = time.monotonic()
            running.signal(signal.SIGTERM)
            assert running.wait(10) == 130
            assert time.monotonic() - began < 5
            assert "called off; what is there is kept" in running.text()
        assert not list((tmp_path / "home").rglob("lease"))
        served.faults.bytes_per_second = 0
        before = served.sent[WEIGHTS]
        ended = subprocess.run(
            command,
            env={**os.environ, **hub.environment(served, tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "another worker" not in ended.stderr
        assert served.sent[WEIGHTS] - before < BIG - 15_000


# A branch that moves


NEWER = "f" * 40


def test_a_newer_commit_that_cannot_be_had_leaves_the_older_copy_in_service(
    downloads: Downloads,
) -> None:
    downloads.succeed()
    older = (downloads.snapshot / WEIGHTS).read_bytes()
    downloads.hub.faults.lie_commit = NEWER
    (downloads.model / WEIGHTS).write_bytes(safetensors(BIG, seed=7))
    downloads.hub.faults.lie_digest[WEIGHTS] = "a" * 64
    for _ in range(2):  # the failed try does not make the newer commit the one that is known
        run = downloads.start()
        assert run.wait() == 0, run.text
        assert "an older copy, which is in the cache, is used" in run.text
        assert run.text.splitlines()[-1] == str(downloads.snapshot)
        assert (downloads.snapshot / WEIGHTS).read_bytes() == older
    assert not (downloads.cache / "snapshots" / NEWER / WEIGHTS).exists()

    downloads.hub.faults.lie_digest.clear()
    run = downloads.start()
    assert run.wait() == 0, run.text
    assert run.text.splitlines()[-1] == str(downloads.cache / "snapshots" / NEWER)
