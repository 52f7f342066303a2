"""What the worker's process writes to its log, in both formats."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

from tests.processes import worker
from tests.worker.log_lines import line_of, lines_of
from tests.worker.traced import ENDLESS, finished, session

JSON = {"ENGINE": "fake", "LOG_FORMAT": "json"}


async def test_each_line_is_a_json_object_from_the_start_to_the_end(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, **JSON) as lone:
        async with session(lone) as client:
            await finished(client)
        lone.process.signal(signal.SIGTERM)
        assert lone.process.wait() == 0
        lines = lines_of(lone.process)
    messages = [line["message"] for line in lines]
    for told in ("loading", "request ended", "draining: running rows are finished"):
        assert told in messages
    for line in lines:
        assert list(line)[:4] == ["time", "level", "logger", "message"]
        assert line["level"] == "INFO"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


async def test_an_exception_is_a_field_of_its_line(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, FAKE_FAIL_AFTER_STEPS="2", **JSON) as lone:
        async with session(lone) as client:
            await finished(client, sampling=ENDLESS)
        assert lone.process.wait() == 1
        line = line_of(lone.process, message="the engine died")
    assert line["level"] == "ERROR"
    assert line["exc_info"].startswith("Traceback")
    assert "RuntimeError: FAKE_FAIL_AFTER_STEPS was reached" in line["exc_info"]


async def test_for_people_the_fields_stand_behind_the_message(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, ENGINE="fake") as lone:
        async with session(lone) as client:
            await finished(client, request_id="of two words")
        found = lone.process.wait_for(r"(?m)^(.*): request ended (.*)$")
    assert re.fullmatch(r"[-\d]{10} [:,\d]{12} INFO sluice_worker\.requests", found[1])
    assert found[2].startswith("request_id='of two words' gateway=test rows=1 prompt_tokens=2 ")


def test_a_format_that_is_not_known_is_named() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sluice_worker"],
        env={"LOG_FORMAT": "xml", "ENGINE": "fake"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "LOG_FORMAT='xml'" in ended.stderr


LIBRARY = """
import logging, sys, warnings
from sluice_worker.logs import set_up_logs
set_up_logs("INFO", sys.argv[1])
for name in ("theirs", "silent"):
    library = logging.getLogger(name)
    library.propagate = False
logging.getLogger("theirs").addHandler(logging.StreamHandler())
logging.getLogger("silent").addHandler(logging.NullHandler())
logging.getLogger("theirs.part").warning("of theirs")
logging.getLogger("silent").warning("of silence")
warnings.warn("an old name", DeprecationWarning, stacklevel=1)
"""


def logged(style: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", LIBRARY, style],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return ended.stderr.splitlines()


def test_a_library_s_own_handler_and_python_s_warnings_are_json_too() -> None:
    theirs, warning = logged("json")
    assert '"logger": "theirs.part", "message": "of theirs"' in theirs
    assert "an old name" in warning
    assert '"logger": "py.warnings"' in warning


def test_for_people_a_library_keeps_its_own_handler() -> None:
    assert logged("console")[0] == "of theirs"
