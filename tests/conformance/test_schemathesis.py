"""The document at /openapi.json against running services: what it allows, and what it does not.

Schemathesis makes requests of it, the same ones each time, and checks each answer: no fault of the
server, no status, type, header or body that is not described, nothing taken that the schema does
not allow, keys asked for. One of its checks is left out. ``positive_data_acceptance`` wants
all that the schema allows to be taken, but a context's length, a vocabulary and whether a model
has a format for tools are the model's, and it counts 2.0 as an integer, which the API does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEXT
from tests.engines import engine_name
from tests.processes import Gateway, gateway, worker

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
GENERATING = ("POST /v1/chat/completions", "POST /v1/completions")
TOKENIZING = ("POST /tokenize", "POST /detokenize")

pytestmark = [
    pytest.mark.xdist_group("demo-stack"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        engine_name() == "vllm", reason="schemathesis does not install beside vLLM's versions"
    ),
]

#: How many answers of each status and media type the requests of an operation had, by mode.
Seen = dict[tuple[str, str], Counter[tuple[int, str]]]


def run(served: Gateway, folder: Path, model: str, *options: str) -> Seen:
    """Run schemathesis, fail with what it and the gateway printed, and count what it saw."""
    report = folder / "report.ndjson"
    arguments = [
        *("--generation-deterministic", "--exclude-checks", "positive_data_acceptance"),
        *("--request-timeout", "60", "--no-color", "--warnings", "off"),
        *("--output-sanitize", "false", "--output-truncate", "false"),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
    ]
    environment = {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.conformance.likely_requests",
        "SERVED_MODEL": model,
    }
    done = subprocess.run(
        [SCHEMATHESIS, "run", f"{served.url}/openapi.json", *arguments, *options],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr + faults(served)
    return seen_in(report)


def faults(served: Gateway) -> str:
    """What the gateway logged beside its requests."""
    return "".join(line for line in served.process.log if " INFO " not in line)


def seen_in(report: Path) -> Seen:
    seen: Seen = {}
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case_id, case in recorder.get("cases", {}).items():
            if response := recorder["interactions"][case_id].get("response"):
                mode = case["value"]["meta"]["generation"]["mode"]
                media_type = content_type(response["headers"])
                answers = seen.setdefault((recorder["label"], mode), Counter())
                answers[response["status_code"], media_type] += 1
    return seen


def content_type(headers: dict[str, Any]) -> str:
    values = headers.get("content-type", [""])
    return str(values[0]).partition(";")[0]


@pytest.fixture
def keyed(fake_model_dir: Path, tmp_path: Path) -> Iterator[Gateway]:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="0", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address, API_KEYS_FILE=str(keys)) as started,
    ):
        yield started


def test_nothing_is_found_on_any_route(keyed: Gateway, tmp_path: Path) -> None:
    options = ("--phases", "coverage,fuzzing", "--max-examples", "40")
    key = ("--header", "Authorization: Bearer secret")
    seen = run(keyed, tmp_path, "fake-model", *options, *key)
    # It would find nothing either if all requests were refused for the same mistake.
    for label in (*GENERATING, *TOKENIZING):
        assert seen[label, "positive"][200, "application/json"] > 5, (label, seen)
        assert seen[label, "negative"][400, "application/json"] > 20, (label, seen)
    for label in GENERATING:
        assert seen[label, "positive"][200, "text/event-stream"] > 0, (label, seen)
    assert seen["GET /v1/models/{model}", "positive"][404, "application/json"] > 0


def test_nothing_is_found_where_a_model_generates(front: Gateway, tmp_path: Path) -> None:
    options = ("--phases", "fuzzing", "--max-examples", "60")
    only = ("--include-path-regex", "completions$")
    seen = run(front, tmp_path, "sluice-demo", *options, *only)
    for label in GENERATING:
        assert seen[label, "positive"][200, "application/json"] > 5, (label, seen)
        assert seen[label, "positive"][200, "text/event-stream"] > 0, (label, seen)
