"""The line in the log for each request, however it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from tokenizers import Tokenizer

from tests.processes import Worker, worker
from tests.worker.log_lines import line_of, lines_of
from tests.worker.sessions import abort, submit
from tests.worker.traced import ENDLESS, Parent, finished, session

SECONDS = {"queue_seconds", "prefill_seconds", "decode_seconds"}


@pytest.fixture(scope="module")
def lone(fake_model_dir: Path) -> Iterator[Worker]:
    settings = {"ENGINE": "fake", "FAKE_STEP_MS": "5", "LOG_FORMAT": "json"}
    with worker(fake_model_dir, **settings) as started:
        yield started


def ended(lone: Worker, request_id: str) -> dict[str, object]:
    """The request's line, without what every line has."""
    line = line_of(lone.process, message="request ended", request_id=request_id)
    assert (line.pop("level"), line.pop("logger")) == ("INFO", "sluice_worker.requests")
    assert line.pop("gateway") == "test"
    return {name: value for name, value in line.items() if name not in ("time", "message")}


async def test_it_tells_what_a_request_was_and_took(lone: Worker) -> None:
    parent = Parent()
    async with session(lone) as client:
        await finished(client, parent.sampled, request_id="whole")
    line = ended(lone, "whole")
    for name in SECONDS:
        seconds = line.pop(name)
        assert isinstance(seconds, float)
        assert seconds >= 0
        assert seconds == round(seconds, 6)
    assert line == {
        "request_id": "whole",
        "rows": 1,
        "prompt_tokens": 2,
        "cached_tokens": 0,
        "generated_tokens": 5,
        "batch_size": 1.0,
        "finish_reason": "length",
        "trace_id": parent.trace_id,
    }


async def test_several_rows_are_one_line_when_the_last_has_ended(lone: Worker) -> None:
    async with session(lone) as client:
        rows = [pb.Row(row_id=1), pb.Row(row_id=2)]
        await client.call.write(submit(rows=rows, sampling=ENDLESS, request_id="rows"))
        await client.next("step")
        await client.call.write(abort(2))
        await client.call.write(submit(3, request_id="between"))
        await client.tokens(3)
        ended(lone, "between")
        assert not [each for each in lines_of(lone.process) if each.get("request_id") == "rows"]
        await client.call.write(abort(1))
        line = ended(lone, "rows")
    assert (line["rows"], line["finish_reason"]) == (2, "aborted,aborted")
    assert 1.0 < float(str(line["batch_size"])) <= 3.0


async def test_a_row_that_fails_names_its_error(lone: Worker, fake_model_dir: Path) -> None:
    tokenizer = Tokenizer.from_file(str(fake_model_dir / "tokenizer.json"))
    prompt = tokenizer.encode("fake:" + json.dumps({"tokens": 3, "end": "error"})).ids
    async with session(lone) as client:
        await finished(client, prompt_ids=prompt, sampling=ENDLESS, request_id="failed")
    line = ended(lone, "failed")
    assert (line["finish_reason"], line["error"]) == ("error", "internal")
    assert line["generated_tokens"] == 3
    assert "fake:" not in str(line)


async def test_a_lost_session_ends_its_requests(lone: Worker) -> None:
    async with session(lone) as client:
        await client.call.write(submit(1, sampling=ENDLESS, request_id="left"))
        await client.next("step")
    assert ended(lone, "left")["finish_reason"] == "session_lost"


async def test_what_was_refused_has_its_own_line_and_no_other(lone: Worker) -> None:
    async with session(lone) as client:
        await client.call.write(submit(1, prompt_ids=[10**6], request_id="bad"))
        assert (await client.admission(1)).HasField("error")
        await finished(client, row_id=2, request_id="after-bad")
    ended(lone, "after-bad")
    told = [line["message"] for line in lines_of(lone.process) if "bad" in line["message"]]
    (line,) = told
    assert line.startswith("request bad refused: ")
    ids = [line.get("request_id") for line in lines_of(lone.process)]
    assert "bad" not in ids


@pytest.mark.parametrize(
    "given",
    ["", "nonsense", Parent().unsampled, f"00-{'0' * 32}-{'1' * 16}-01"],
    ids=["none", "nonsense", "unsampled", "zeros"],
)
async def test_without_a_sampled_trace_it_names_none(lone: Worker, given: str) -> None:
    request_id = f"untraced {given}"
    async with session(lone) as client:
        await finished(client, given, request_id=request_id)
    assert "trace_id" not in ended(lone, request_id)
