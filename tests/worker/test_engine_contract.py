"""What every engine owes the service: the same cases over all engines."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.engines import find_engine
from sluice_worker.engines.base import (
    Engine,
    ErrorCode,
    FinishReason,
    GenerationRequest,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    RowSpec,
    SamplingParams,
    StepOutput,
    ThinkingBudget,
    TokenLogprobs,
)
from sluice_worker.lifecycle import State
from sluice_worker.progress import Progress
from sluice_worker.settings import FakeSettings, Settings
from sluice_worker.wire import LATER_FIELDS

from tests.engines import contract_engines, engine_name, vllm_environment

DEMO = Path(str(files("sluice_worker") / "demo_model"))
PROMPT = (5, 6, 7, 8, 9, 10, 11)
BATCH_MAX = 4
QUEUE_MAX = 4


@dataclass
class Running:
    """An engine under way and all that it emitted."""

    engine: Engine
    steps: list[StepOutput] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def emit(self, step: StepOutput) -> None:
        with self.changed:
            self.steps.append(step)
            self.changed.notify_all()

    def outputs(self, key: RowKey) -> list[RowOutput]:
        return [row for step in self.steps for row in step.rows if row.key == key]

    def ids(self, key: RowKey) -> list[int]:
        return [token_id for row in self.outputs(key) for token_id in row.token_ids]

    def finish(self, key: RowKey) -> RowFinish:
        found = [row.finish for row in self.outputs(key) if row.finish]
        assert len(found) == 1, found
        return found[0]

    def wait(self, *keys: RowKey, seconds: float = 30) -> None:
        """Until all of these rows have ended."""

        def ended() -> bool:
            return all(any(row.finish for row in self.outputs(key)) for key in keys)

        with self.changed:
            assert self.changed.wait_for(ended, seconds), self.steps[-3:]

    def until(self, condition: Any, seconds: float = 30) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds)


class Recorder:
    """Keeps what an engine tells while it loads."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def state(self, state: State) -> None:
        self.states.append(state)

    def progress(self, progress: Progress) -> None:
        assert 0 <= progress.bytes_done <= progress.bytes_total

    def note(self, message: str) -> None:
        assert "\n" not in message


@pytest.fixture(scope="module", params=contract_engines())
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    given = vllm_environment() if request.param == "vllm" else {"ENGINE": request.param}
    settings = Settings(
        **{name.lower(): value for name, value in given.items()},  # type: ignore[arg-type]
        model_id=str(DEMO),
        batch_max=BATCH_MAX,
        queue_max=QUEUE_MAX,
        num_threads=1,
        fake=FakeSettings(step_ms=2),
    )
    others = set(threading.enumerate())
    report = Recorder()
    engine = find_engine(request.param).load_engine(settings, DEMO, report, {})
    assert report.states[-1] == pb.WORKER_STATE_WARMING
    started = Running(engine)
    engine.start(started.emit, started.failures.append)
    yield started
    engine.close()
    engine.close()
    assert not started.failures
    assert not [thread for thread in set(threading.enumerate()) - others if "engine" in thread.name]


numbers = iter(range(1, 1_000_000))


def request(
    *,
    rows: int = 1,
    prompt: tuple[int, ...] = PROMPT,
    generated: tuple[int, ...] = (),
    **given: Any,
) -> GenerationRequest:
    given = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True, **given}
    specs = tuple(RowSpec(RowKey(1, next(numbers)), 3, generated) for _ in range(rows))
    return GenerationRequest(prompt, SamplingParams(**given), specs)


def run(running: Running, asked: GenerationRequest) -> list[RowKey]:
    keys = [spec.key for spec in asked.rows]
    running.engine.submit(asked)
    running.wait(*keys)
    return keys


def test_it_describes_its_model(running: Running) -> None:
    model = running.engine.model
    assert model.fingerprint
    assert model.max_model_len > 100
    assert model.vocab_size > 100
    assert model.eos_token_ids
    assert model.batch_max == BATCH_MAX


def test_a_row_starts_once_and_ends_at_max_tokens(running: Running) -> None:
    (key,) = run(running, request(max_tokens=5))
    outputs = running.outputs(key)
    assert len(running.ids(key)) == 5
    assert [row.start is not None for row in outputs] == [True, *[False] * (len(outputs) - 1)]
    assert running.finish(key).reason is FinishReason.LENGTH
    assert all(row.logprobs is None for row in outputs)


def test_greedy_rows_are_the_same_each_time_and_beside_each_other(running: Running) -> None:
    (alone,) = run(running, request())
    asked = [request(rows=2), request(prompt=PROMPT[::-1]), request()]
    for each in asked:
        running.engine.submit(each)
    keys = [spec.key for each in asked for spec in each.rows]
    running.wait(*keys)
    assert running.ids(keys[0]) == running.ids(alone)
    assert running.ids(keys[1]) == running.ids(alone)
    assert running.ids(keys[3]) == running.ids(alone)


def test_a_stop_token_is_the_last_id(running: Running) -> None:
    (plain,) = run(running, request(max_tokens=12))
    ids = running.ids(plain)
    stop = ids[6]
    (key,) = run(running, request(max_tokens=12, stop_token_ids=(stop,)))
    assert running.ids(key) == ids[: ids.index(stop) + 1]
    finish = running.finish(key)
    assert (finish.reason, finish.stop_token_id) == (FinishReason.STOP, stop)


def test_a_resumed_row_goes_on_as_it_would_have(running: Running) -> None:
    (whole,) = run(running, request(max_tokens=10))
    ids = tuple(running.ids(whole))
    for cut in (1, 4, 9):
        (key,) = run(running, request(max_tokens=10, generated=ids[:cut]))
        assert tuple(running.ids(key)) == ids[cut:]
        assert running.finish(key).reason is FinishReason.LENGTH


def test_logprobs_come_with_each_token(running: Running) -> None:
    (key,) = run(running, request(max_tokens=4, logprobs=3))
    found = [entry for row in running.outputs(key) for entry in row.logprobs or ()]
    assert len(found) == 4
    for token_id, entry in zip(running.ids(key), found, strict=True):
        assert entry.logprob <= 0
        assert len(entry.top) == 3
        assert entry.top[0] == (token_id, entry.logprob)  # greedy: the most likely one
    (none,) = run(running, request(max_tokens=2, logprobs=0))
    assert all(entry.top == () for row in running.outputs(none) for entry in row.logprobs or ())


def test_it_honours_all_of_the_contracts_later_fields(running: Running) -> None:
    assert running.engine.model.request_fields == LATER_FIELDS


def of_prompt(running: Running, key: RowKey) -> list[TokenLogprobs]:
    entries: list[TokenLogprobs] = []
    for row in running.outputs(key):
        if row.prompt_logprobs is not None:
            assert row.prompt_logprobs.position == len(entries) + 1
            entries += row.prompt_logprobs.entries
    return entries


@pytest.mark.parametrize("top", [0, 2])
def test_a_requests_first_row_tells_the_log_probabilities_of_the_prompt(
    running: Running, top: int
) -> None:
    prompt = PROMPT * 30
    run(running, request(prompt=prompt))  # a cache of prompts must not hide any of it
    first, second = run(running, request(rows=2, prompt=prompt, prompt_logprobs=top))
    entries = of_prompt(running, first)
    assert len(entries) == len(prompt) - 1
    assert all(entry.logprob <= 0 and len(entry.top) == top for entry in entries)
    for entry in entries:
        assert [value for _, value in entry.top] == sorted((v for _, v in entry.top), reverse=True)
    assert not of_prompt(running, second)
    assert running.ids(first) == running.ids(second)


def test_a_prompt_of_one_token_has_nothing_to_tell(running: Running) -> None:
    (key,) = run(running, request(prompt=PROMPT[:1], prompt_logprobs=1))
    assert not of_prompt(running, key)


def test_a_prompts_log_probability_is_that_of_generating_it(running: Running) -> None:
    (generated,) = run(running, request(max_tokens=6, logprobs=1))
    ids = running.ids(generated)
    (key,) = run(running, request(prompt=(*PROMPT, *ids), max_tokens=1, prompt_logprobs=1))
    said = [entry for row in running.outputs(generated) for entry in row.logprobs or ()]
    again = of_prompt(running, key)[len(PROMPT) - 1 :]
    for token, before, after in zip(ids, said, again, strict=True):
        assert after.top[0][0] == token
        assert after.logprob == pytest.approx(before.logprob, abs=1e-3)


def budget(tokens: int, *, begun: bool = True) -> ThinkingBudget:
    added = json.loads((DEMO / "tokenizer.json").read_bytes())["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    return ThinkingBudget(tokens, ids["<think>"], ids["</think>"], begun)


@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("behind", [(), (9,)])
def test_reasoning_ends_when_its_budget_is_spent(
    running: Running, tokens: int, behind: tuple[int, ...]
) -> None:
    thinking = budget(tokens)
    prompt = (*PROMPT, thinking.begin_id, *behind)
    (free,) = run(running, request(prompt=prompt, max_tokens=12))
    asked = request(prompt=prompt, max_tokens=12, thinking_budget=thinking, logprobs=0)
    (key,) = run(running, asked)
    ids = running.ids(key)
    assert thinking.end_id not in running.ids(free)
    assert ids[:tokens] == running.ids(free)[:tokens]
    assert ids[tokens] == thinking.end_id
    assert ids.count(thinking.end_id) == 1
    assert len(ids) == 12
    assert len([entry for row in running.outputs(key) for entry in row.logprobs or ()]) == 12


def test_a_budget_that_is_not_spent_changes_nothing(running: Running) -> None:
    thinking = budget(50)
    prompt = (*PROMPT, thinking.begin_id)
    (free,) = run(running, request(prompt=prompt))
    (key,) = run(running, request(prompt=prompt, thinking_budget=thinking))
    assert running.ids(key) == running.ids(free)


def test_a_row_that_does_not_reason_has_no_use_of_a_budget(running: Running) -> None:
    (free,) = run(running, request(max_tokens=12))
    (key,) = run(running, request(max_tokens=12, thinking_budget=budget(2, begun=False)))
    assert running.ids(key) == running.ids(free)


def test_a_resumed_row_has_spent_some_of_its_budget(running: Running) -> None:
    thinking = budget(5)
    prompt = (*PROMPT, thinking.begin_id)
    (whole,) = run(running, request(prompt=prompt, max_tokens=12, thinking_budget=thinking))
    ids = tuple(running.ids(whole))
    for cut in (1, 5, 6, 9):
        asked = request(prompt=prompt, max_tokens=12, thinking_budget=thinking, generated=ids[:cut])
        (key,) = run(running, asked)
        assert tuple(running.ids(key)) == ids[cut:]


def test_bad_words_are_not_generated(running: Running) -> None:
    (plain,) = run(running, request(max_tokens=12))
    ids = running.ids(plain)
    place = next(at for at in range(2, 12) if ids[at] not in ids[:at])
    alone, pair = (ids[place],), tuple(ids[place - 1 : place + 1])
    (single,) = run(running, request(max_tokens=12, bad_words=(alone,)))
    assert running.ids(single)[:place] == ids[:place]
    assert ids[place] not in running.ids(single)
    (both,) = run(running, request(max_tokens=12, bad_words=(pair, (ids[0], ids[0], ids[0], 5))))
    found = running.ids(both)
    assert found[:place] == ids[:place]
    assert pair not in list(pairwise(found))


@pytest.mark.skipif(engine_name() == "vllm", reason="vLLM refuses such a row: tests/vllm")
def test_a_resumed_row_knows_the_bad_words_that_it_has_begun(running: Running) -> None:
    (plain,) = run(running, request(max_tokens=8))
    ids = running.ids(plain)
    asked = request(max_tokens=8, generated=tuple(ids[:4]), bad_words=(tuple(ids[2:5]),))
    (key,) = run(running, asked)
    assert running.ids(key)[0] != ids[4]


def test_an_aborted_row_says_nothing_more(running: Running) -> None:
    asked = request(max_tokens=1500)
    key = asked.rows[0].key
    running.engine.submit(asked)
    running.until(lambda: len(running.ids(key)) > 3)
    running.engine.abort([key, RowKey(9, 9)])
    deadline = time.monotonic() + 10
    while running.engine.load().rows_running:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    count = len(running.ids(key))
    run(running, request())
    assert len(running.ids(key)) == count
    assert not [row for row in running.outputs(key) if row.finish]
    assert running.engine.load().kv_cache_usage == 0.0


def test_more_rows_than_a_batch_wait_their_turn(running: Running) -> None:
    asked = request(rows=BATCH_MAX + 3, max_tokens=40)
    before = len(running.steps)
    run(running, asked)
    sizes = [step.batch_size for step in running.steps[before:]]
    assert max(sizes) == BATCH_MAX


def test_a_full_queue_refuses_at_once_and_recovers(running: Running) -> None:
    asked = [request(rows=BATCH_MAX, max_tokens=400), request(rows=QUEUE_MAX, max_tokens=4)]
    for each in asked:
        running.engine.submit(each)
    with pytest.raises(RequestError) as caught:
        running.engine.submit(request(rows=2))
    assert caught.value.code is ErrorCode.OVERLOADED
    running.engine.abort([spec.key for spec in asked[0].rows])
    running.wait(*(spec.key for spec in asked[1].rows))
    run(running, request())


def test_rows_that_wait_come_by_priority_and_then_in_the_order_of_their_coming(
    running: Running,
) -> None:
    full = [request(max_tokens=1500) for _ in range(BATCH_MAX)]
    for each in full:
        running.engine.submit(each)
    running.until(lambda: all(running.ids(each.rows[0].key) for each in full))
    waiting = {}
    for name, priority in (("late", 3), ("first", 0), ("urgent", -1), ("second", 0)):
        waiting[name] = replace(request(max_tokens=3), priority=priority)
        running.engine.submit(waiting[name])
    running.engine.abort([full[0].rows[0].key])  # one place for all that wait
    keys = {name: each.rows[0].key for name, each in waiting.items()}
    running.wait(*keys.values())
    begun = [row.key for step in running.steps for row in step.rows if row.start]
    order = sorted(keys, key=lambda name: begun.index(keys[name]))
    assert order == ["urgent", "first", "second", "late"]
    running.engine.abort([each.rows[0].key for each in full])


def test_load_tells_of_rows_and_memory(running: Running) -> None:
    asked = request(max_tokens=1500)
    running.engine.submit(asked)
    running.until(lambda: running.ids(asked.rows[0].key))
    load = running.engine.load()
    assert load.rows_running == 1
    assert 0.0 < load.kv_cache_usage <= 1.0
    running.engine.abort([asked.rows[0].key])
