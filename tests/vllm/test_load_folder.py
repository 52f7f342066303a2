"""Where vLLM's processes tell how a load goes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from sluice_worker.engines.vllm.load_failure import read_failure, tell_failures
from sluice_worker.engines.vllm.load_folder import FOLDER_VARIABLE, LoadFolder, own_file

ENDED = 2**22 + 1
"""No process has this id: it is above the largest that Linux gives."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_there_while_a_load_lasts() -> None:
    assert own_file(".count") is None
    with LoadFolder() as folder:
        assert os.environ[FOLDER_VARIABLE] == str(folder.path)
        assert own_file(".count") == folder.path / f"{os.getpid()}.count"
    assert own_file(".count") is None
    assert not folder.path.exists()


def test_what_ended_workers_left_is_taken_away_and_nothing_else(here: Path) -> None:
    (here / f"sluice-vllm-{ENDED}-abc").mkdir()
    (here / f"sluice-vllm-{os.getppid()}-abc").mkdir()
    (here / "mine").mkdir()
    with LoadFolder():
        pass
    assert {path.name for path in here.iterdir()} == {f"sluice-vllm-{os.getppid()}-abc", "mine"}


def test_the_first_exception_that_is_logged_is_the_reason() -> None:
    logger = logging.getLogger("vllm.v1.some_process")
    tell_failures()
    tell_failures()
    with LoadFolder() as folder:
        logger.error("no exception")
        assert read_failure(folder.path) is None
        for reason in ("no room for the KV cache", "everything else follows from it"):
            try:
                raise ValueError(reason)
            except ValueError:
                logger.exception("failed to start")
        assert read_failure(folder.path) == "no room for the KV cache"


def test_what_fails_after_the_load_is_none_of_its_reasons(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_failures()
    with LoadFolder() as folder:
        pass
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder.path))  # as vLLM's processes still have it
    try:
        raise ValueError("a row")
    except ValueError:
        logging.getLogger("vllm.v1.some_process").exception("later")
    assert "Logging error" not in capsys.readouterr().err
