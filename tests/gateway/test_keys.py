"""API keys and their file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sluice_gateway.errors import InvalidKey
from sluice_gateway.keys import ApiKeys
from sluice_gateway.settings import SettingsError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("sk-one\n")
    return path


def lets_in(keys: ApiKeys, key: str) -> bool:
    try:
        keys.check(f"Bearer {key}")
    except InvalidKey:
        return False
    return True


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_a_file_that_cannot_be_read_at_first_is_a_wrong_setting(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"sk-one\n\xff\xfe\n")
    for path, reason in (
        (tmp_path / "nowhere", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (broken, "not UTF-8 at byte 7"),
    ):
        with pytest.raises(SettingsError) as raised:
            ApiKeys(path)
        assert str(raised.value) == f"API_KEYS_FILE={path}: {reason}"


def test_a_missing_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sluice_gateway"],
        env={
            "PATH": "",
            "GATEWAY_ADDRESS": "127.0.0.1:0",
            "API_KEYS_FILE": str(tmp_path / "nowhere"),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"API_KEYS_FILE={tmp_path}/nowhere" in ended.stderr


def test_a_file_that_is_no_text_any_more_keeps_the_last_keys_and_warns_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(path)
    path.write_bytes(b"\xff\xfe")
    for _ in range(3):
        assert lets_in(keys, "sk-one")
        assert not lets_in(keys, "sk-two")
    assert len(warnings(caplog)) == 1
    path.write_bytes(b"\xff\xfe\xfd")
    assert lets_in(keys, "sk-one")
    assert len(warnings(caplog)) == 2
    path.write_text("sk-two\n")
    assert lets_in(keys, "sk-two")
    assert not lets_in(keys, "sk-one")
    assert len(warnings(caplog)) == 2


def test_a_file_that_is_gone_for_a_while_keeps_the_last_keys_and_warns_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(path)
    aside = path.rename(path.with_name("aside"))
    for _ in range(3):
        assert lets_in(keys, "sk-one")
    assert len(warnings(caplog)) == 1
    aside.rename(path)
    assert lets_in(keys, "sk-one")
    path.unlink()
    assert lets_in(keys, "sk-one")
    assert len(warnings(caplog)) == 2


def test_a_change_that_keeps_the_time_is_noticed(path: Path) -> None:
    keys = ApiKeys(path)
    before = path.stat()
    path.write_text("sk-two\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert lets_in(keys, "sk-two")
    assert not lets_in(keys, "sk-one")
