"""vLLM behind the contract, beside the hf engine with the same weights."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.engines.base import (
    Constraint,
    ErrorCode,
    FinishReason,
    RequestError,
    StructuredOutput,
)
from tokenizers import Tokenizer

from tests.vllm.conftest import DEMO
from tests.vllm.driver import PROMPT, Driver, Recorder

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def prompts(count: int) -> list[tuple[int, ...]]:
    chance = random.Random(7)
    return [tuple(chance.randrange(3, 3000) for _ in range(1 + 7 * i % 60)) for i in range(count)]


def tokens(text: str) -> tuple[int, ...]:
    return tuple(Tokenizer.from_file(str(DEMO / "tokenizer.json")).encode(text).ids)


def text(ids: list[int]) -> str:
    decoded: str = Tokenizer.from_file(str(DEMO / "tokenizer.json")).decode(ids)
    return decoded


def test_loading_tells_bytes_and_then_that_it_warms_up(vllm: Driver, recorder: Recorder) -> None:
    assert recorder.states[-1] == pb.WORKER_STATE_WARMING
    assert recorder.bytes
    assert any("warm" in note for note in recorder.notes)


def test_greedy_tokens_are_those_of_the_hf_engine(vllm: Driver, hf: Driver) -> None:
    for prompt in prompts(12):
        assert vllm.run(*prompt, max_tokens=24) == hf.run(*prompt, max_tokens=24)


def test_32_requests_at_once_get_what_each_gets_alone(vllm: Driver) -> None:
    many = prompts(32)
    alone = [vllm.run(*prompt) for prompt in many]
    before = len(vllm.steps)
    keys = [key for prompt in many for key in vllm.submit(vllm.request(prompt))]
    vllm.wait(*keys)
    assert [vllm.ids[key] for key in keys] == alone
    steps = vllm.steps[before:]
    assert max(step.batch_size for step in steps) > 8
    # All rows of a step came in one piece.
    assert max(len(step.rows) for step in steps) > 8
    assert len(steps) < 32 * 16 / 4


def test_logprobs_are_those_of_the_hf_engine(vllm: Driver, hf: Driver) -> None:
    mine, theirs = (each.finished(logprobs=3, max_tokens=8) for each in (vllm, hf))
    assert len(vllm.logprobs[mine]) == 8
    for ours, other in zip(vllm.logprobs[mine], hf.logprobs[theirs], strict=True):
        assert ours.logprob == pytest.approx(other.logprob, abs=2e-2)
        assert [token for token, _ in ours.top] == [token for token, _ in other.top]
        assert ours.top[0][1] == ours.logprob


def test_a_sampled_token_has_its_logprob_beside_the_most_likely(vllm: Driver) -> None:
    key = vllm.finished(logprobs=2, temperature=2.0, max_tokens=30, seeded=True)
    for token_id, entry in zip(vllm.ids[key], vllm.logprobs[key], strict=True):
        assert len(entry.top) == 2
        assert entry.top[0][1] >= entry.top[1][1]
        assert dict(entry.top).get(token_id, entry.logprob) == entry.logprob


def test_a_seed_gives_the_same_draws_whatever_runs_beside_it(vllm: Driver) -> None:
    asked = {"temperature": 1.0, "seeded": True, "seed": 11}
    alone = vllm.run(**asked)
    beside = vllm.submit(vllm.request(rows=6, temperature=1.0, max_tokens=40))
    assert vllm.run(**asked) == alone
    vllm.wait(*beside)
    assert vllm.run(**{**asked, "seed": 12}) != alone


def test_rows_without_a_seed_of_the_clients_differ(vllm: Driver) -> None:
    keys = vllm.submit(vllm.request(rows=8, temperature=1.5, max_tokens=20))
    vllm.wait(*keys)
    assert len({tuple(vllm.ids[key]) for key in keys}) > 4


def test_the_models_own_end_ends_a_row(vllm: Driver) -> None:
    end = vllm.engine.model.eos_token_ids[0]
    asked = {"logit_bias": {end: 100.0}, "max_tokens": 9}
    key = vllm.finished(**asked, ignore_eos=False)
    assert vllm.ids[key] == [end]
    assert vllm.finishes[key].stop_token_id == end
    assert len(vllm.run(**asked, ignore_eos=True)) == 9
    key = vllm.finished(**asked, ignore_eos=False, min_tokens=4)
    assert len(vllm.ids[key]) == 5


def test_an_abort_frees_the_keys_and_values(vllm: Driver) -> None:
    keys = vllm.submit(vllm.request(rows=5, max_tokens=1500))
    vllm.until(lambda: all(len(vllm.ids[key]) > 3 for key in keys))
    load = vllm.engine.load()
    assert load.rows_running == 5
    assert load.kv_cache_usage > 0
    vllm.engine.abort(keys)
    assert vllm.engine.load().kv_cache_usage == 0
    vllm.run(max_tokens=3)
    # What vLLM says itself, of its last step with one row in it.
    llm_usage = vllm.engine._usage  # type: ignore[attr-defined]
    assert llm_usage <= 1 / 50
    assert not any(key in vllm.finishes for key in keys)


def test_a_prompt_that_begins_alike_is_taken_from_the_cache(vllm: Driver) -> None:
    long = tuple(range(100, 400))
    first, again = (vllm.finished(*long, last, max_tokens=4) for last in (1, 2))
    assert vllm.starts[first].cached_tokens == 0
    assert vllm.starts[again].cached_tokens >= 128
    load = vllm.engine.load()
    assert 0 < load.prefix_cache_hits < load.prefix_cache_queries


@pytest.mark.parametrize(
    ("constraint", "source", "check"),
    [
        (Constraint.CHOICES, '["left", "right"]', lambda said: said in ("left", "right")),
        (Constraint.REGEX, "[a-c]{3}-[0-9]{2}", lambda said: said[3] == "-" and len(said) == 6),
        (Constraint.GRAMMAR, 'start: "x" ("," "x")* "."', lambda said: said[-1] == "."),
        (
            Constraint.JSON_SCHEMA,
            json.dumps(SCHEMA),
            lambda said: jsonschema.validate(json.loads(said), SCHEMA) is None,
        ),
    ],
)
def test_a_structured_output_is_kept(
    vllm: Driver, constraint: Constraint, source: str, check: Any
) -> None:
    output = StructuredOutput(constraint, source)
    vllm.engine.prepare(output)
    for temperature in (0.0, 1.0):
        key = vllm.finished(
            structured_output=output, temperature=temperature, ignore_eos=False, max_tokens=300
        )
        if vllm.finishes[key].reason is FinishReason.STOP:
            assert check(text(vllm.ids[key][:-1])), text(vllm.ids[key])
        else:
            assert constraint in (Constraint.JSON_SCHEMA, Constraint.GRAMMAR)


@pytest.mark.parametrize(
    "output",
    [
        StructuredOutput(Constraint.JSON_SCHEMA, '{"type": "nonsense"}'),
        StructuredOutput(Constraint.JSON_SCHEMA, "no JSON"),
        StructuredOutput(Constraint.REGEX, "(["),
        StructuredOutput(Constraint.GRAMMAR, "start: nowhere"),
        StructuredOutput(Constraint.GRAMMAR, "x:"),
        # Those below compile in vLLM, and its core would end their rows with nothing said.
        StructuredOutput(Constraint.GRAMMAR, "start: start"),
        StructuredOutput(Constraint.GRAMMAR, 'start: "a" <|nope|>'),
        StructuredOutput(Constraint.JSON_SCHEMA, '{"$ref": "#"}'),
    ],
)
def test_a_structured_output_that_cannot_be_is_refused(
    vllm: Driver, output: StructuredOutput
) -> None:
    with pytest.raises(RequestError) as caught:
        vllm.engine.prepare(output)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.field == "structured_output"


def test_a_row_with_penalties_cannot_be_resumed_and_says_so(vllm: Driver) -> None:
    with pytest.raises(RequestError, match="presence_penalty"):
        vllm.submit(vllm.request(generated=(5,), presence_penalty=1.0))


def test_a_row_that_cannot_be_read_fails_alone(
    vllm: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice_worker.engines.vllm import engine

    whole = vllm.run(max_tokens=40)
    poison, other = (vllm.submit(vllm.request(max_tokens=40))[0] for _ in range(2))
    read = engine.row_output

    def break_one(key: Any, *rest: Any, **options: Any) -> Any:
        if key == poison and len(vllm.ids[key]) >= 3:
            raise KeyError(key)
        return read(key, *rest, **options)

    monkeypatch.setattr(engine, "row_output", break_one)
    vllm.wait(poison, other)
    failure = vllm.finishes[poison].error
    assert failure is not None
    assert failure.code is ErrorCode.INTERNAL
    assert vllm.ids[other] == whole
    assert vllm.run(max_tokens=40) == whole


def test_an_adapter_answers_as_its_merged_model(
    vllm: Driver, adapters: dict[str, Path], tmp_path: Path
) -> None:
    from tests.vllm.adapter import merge
    from tests.vllm.conftest import hf_driver

    asked = tokens("<|im_start|>user\nSay hello<|im_end|>\n<|im_start|>assistant\n")
    plain = vllm.run(*asked)
    said = {name: vllm.run(*asked, adapter=name) for name in adapters}
    assert len({tuple(ids) for ids in (plain, *said.values())}) == 3
    for name, path in adapters.items():
        merged = hf_driver(merge(DEMO, path, tmp_path / name))
        assert next(merged).run(*asked) == said[name]
        assert not list(merged)
    # Side by side in one batch, too.
    keys = {
        name: vllm.submit(vllm.request(asked, rows=2, adapter=name))[1] for name in ("", *adapters)
    }
    vllm.wait(*keys.values())
    assert {name: vllm.ids[key] for name, key in keys.items()} == {"": plain, **said}


def test_each_adapter_has_a_fingerprint_of_its_own(vllm: Driver) -> None:
    model = vllm.engine.model
    prints = {model.fingerprint, *(adapter.fingerprint for adapter in model.adapters)}
    assert len(prints) == 3
    assert [adapter.name for adapter in model.adapters] == ["pirate", "poet"]


def test_its_own_metrics_are_there(vllm: Driver) -> None:
    vllm.run()
    names = {metric.name for metric in vllm.engine.metrics()}
    assert {"vllm:num_requests_running", "vllm:generation_tokens"} <= names
    assert all(name.startswith("vllm:") for name in names)


def test_abort_and_submit_of_the_same_moment_leave_nothing_behind(vllm: Driver) -> None:
    for _ in range(50):
        keys = vllm.submit(vllm.request(rows=3, max_tokens=400))
        vllm.engine.abort(keys[:2])
        vllm.engine.abort(keys[2:])
    vllm.run()
    deadline = time.monotonic() + 10
    while vllm.engine._llm.output_processor.request_states:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert vllm.run() == vllm.run(*PROMPT)
