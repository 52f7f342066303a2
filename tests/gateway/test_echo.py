"""``echo`` with ``logprobs``, and ``max_tokens: 0``, as evaluation harnesses ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.choice import Choice, EchoingChoice
from sluice_gateway.echo import ECHOED_TOKENS_MAX, Echo, id_offsets, text_offsets
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.generation import Generation, Signal
from sluice_gateway.inter_token import Intervals
from sluice_gateway.output.machine import OutputMachine
from sluice_gateway.prompt_scores import PromptScores

from tests.conftest import TEXT, make_tokenizer
from tests.gateway.text.samples import KINDS, model
from tests.gateway.text.test_prompt import completions
from tests.processes import Gateway, gateway, worker
from tests.sse import finish_reasons, stream

PATH = "/v1/completions"
PROMPT = "The lazy dog, naïve 🙂 fox"


def piece(position: int, *logprobs: float) -> pb.PromptLogprobs:
    tops = list(range(len(logprobs)))
    return pb.PromptLogprobs(
        row_id=1, position=position, logprobs=logprobs, top_ids=tops, top_logprobs=logprobs,
        top_count=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def front(fake_model_dir: Path) -> Iterator[Gateway]:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address) as started,
    ):
        yield started


def post(front: Gateway, **body: Any) -> httpx.Response:
    return httpx.post(
        front.url + PATH, json={"prompt": PROMPT, "max_tokens": 0, **body}, timeout=30
    )


def test_scores_come_in_pieces_and_none_is_taken_twice() -> None:
    scores = PromptScores(6)
    scores.add(piece(1, -1.0, -2.0))
    assert not scores.complete
    scores.add(piece(1, -1.0, -2.0, -3.0))  # another worker began again
    scores.add(piece(5, -5.0))  # a piece is missing before it
    scores.add(piece(2, -2.0, -3.0))
    assert [score for score, _ in scores.take()] == [-1.0, -2.0, -3.0]
    scores.add(piece(4, -4.0, -5.0))
    assert scores.complete
    assert [score for score, _ in scores.take()] == [-4.0, -5.0]
    assert scores.take() == []
    assert PromptScores(1).complete


def test_what_was_told_is_not_asked_for_again() -> None:
    sampling = pb.SamplingParams(max_tokens=1, prompt_logprobs=2)
    generation = Generation([1, 2, 3], sampling, [1], Signal())
    assert generation.prompt_scores is not None
    assert generation.sampling_left.prompt_logprobs == 2
    generation.prompt_scores.add(piece(1, -1.0, -1.0))
    assert not generation.sampling_left.HasField("prompt_logprobs")
    assert generation.sampling_left.max_tokens == 1


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_offsets_go_up_within_the_text(kind: str, data: st.DataObject) -> None:
    served = model(kind)
    tokenizer = served.tokenizer
    ids = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=12))
    places = id_offsets(tokenizer, ids)
    text = tokenizer.decode(ids)
    assert len(places) == len(ids)
    assert places == sorted(places)
    assert not places or places[0] == 0
    assert not places or places[-1] <= len(text)


@pytest.mark.parametrize("text", ["hello world, the fox", "<|im_start|>user\nhello<|im_end|>"])
def test_the_offsets_of_a_text_are_where_its_tokens_begin(text: str) -> None:
    tokenizer = model().tokenizer
    ids = tokenizer.encode(text)
    places = text_offsets(tokenizer, ids, text)
    ends = [*places[1:], len(text)]
    pieces = [text[begin:end] for begin, end in zip(places, ends, strict=True)]
    assert "".join(pieces) == text
    assert [one.encode() for one in pieces] == [tokenizer.token_bytes(one) for one in ids]


def test_a_special_token_before_the_text_has_none_of_it() -> None:
    tokenizer = model("llama").tokenizer
    ids = tokenizer.encode("hello world")
    places = text_offsets(tokenizer, ids, "hello world")
    assert ids[0] == 1
    assert places[:2] == [0, 0]
    assert max(places) < len("hello world")


def test_more_prompt_tokens_than_can_be_told_are_refused_by_name() -> None:
    ids = [[5] * 1200] * 60
    served = model(max_model_len=2000)
    asked: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": 0}
    assert len(completions(ids, served, **asked)) == 60
    with pytest.raises(InvalidRequest) as caught:
        completions(ids, served, **asked, best_of=2)
    assert caught.value.param == "prompt"
    assert str(ECHOED_TOKENS_MAX) in caught.value.message
    assert len(completions(ids, served, echo=True, max_tokens=0, best_of=2)) == 60


def choice_of(generation: Generation, number: int = 0) -> Choice:
    served = model()
    scores = generation.prompt_scores
    assert scores is not None
    echo = Echo("ab", generation.prompt_ids, [0, 1], scores, served.tokenizer)
    machine = OutputMachine(served.tokenizer.detokenizer(), served.tokenizer)
    row = generation.rows[number]
    return EchoingChoice(number, row, machine, echo, wants_logprobs=True, intervals=Intervals())


def test_a_row_that_is_ahead_of_its_prompt_waits_for_it() -> None:
    sampling = pb.SamplingParams(prompt_logprobs=0)
    generation = Generation([70, 71], sampling, [1, 2], Signal())
    choice = choice_of(generation, 1)
    row = generation.rows[1]
    row.ids, row.logprobs = [72, 73], [(-1.0, []), (-1.0, [])]
    row.finish = pb.RowFinish(reason=pb.FINISH_REASON_LENGTH)
    assert choice.advance() == []
    assert not choice.done
    assert generation.prompt_scores is not None
    generation.prompt_scores.add(piece(1, -1.0))
    prompt, *rest = choice.advance()
    assert prompt.text == "ab"  # type: ignore[union-attr]
    assert [found.offset for found in rest[0].logprobs] == [2, 3]  # type: ignore[union-attr]
    assert choice.done


def test_rows_that_end_without_their_prompt_fail() -> None:
    generation = Generation([70, 71], pb.SamplingParams(prompt_logprobs=0), [1], Signal())
    choice = choice_of(generation)
    generation.rows[0].finish = pb.RowFinish(reason=pb.FINISH_REASON_LENGTH)
    assert choice.advance() == []
    assert choice.done
    assert choice.failure is not None


def test_nothing_but_the_prompt_is_told(front: Gateway) -> None:
    answer = post(front, echo=True, logprobs=2).json()
    (choice,) = answer["choices"]
    assert choice["text"] == PROMPT
    assert choice["finish_reason"] == "length"
    found = choice["logprobs"]
    ids = make_tokenizer().encode(PROMPT).ids
    assert {len(values) for values in found.values()} == {len(ids)}
    assert found["token_logprobs"] == [None, *[-0.25] * (len(ids) - 1)]
    assert found["top_logprobs"][0] is None
    assert all(len(top) >= 2 for top in found["top_logprobs"][1:])
    assert all(
        top[token] == -0.25
        for top, token in zip(found["top_logprobs"][1:], found["tokens"][1:], strict=True)
    )
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        assert token.startswith("bytes:") or PROMPT[offset:].startswith(token)
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["prompt_tokens"] == len(ids)


def test_a_prompt_in_ids_is_told_as_its_text(front: Gateway) -> None:
    ids = make_tokenizer().encode(PROMPT).ids
    as_ids = post(front, prompt=ids, echo=True, logprobs=1).json()["choices"]
    assert as_ids == post(front, echo=True, logprobs=1).json()["choices"]


def test_what_is_generated_comes_behind_the_prompt(front: Gateway) -> None:
    body = {"echo": True, "logprobs": 1, "max_tokens": 4, "n": 2, "prompt": [PROMPT, "x"]}
    answer = post(front, **body).json()
    alone = post(front, max_tokens=4, logprobs=1).json()["choices"][0]
    assert [choice["text"] for choice in answer["choices"]] == [
        PROMPT + alone["text"],
        PROMPT + alone["text"],
        "x" + alone["text"],
        "x" + alone["text"],
    ]
    first = answer["choices"][0]["logprobs"]
    assert first["tokens"][-4:] == alone["logprobs"]["tokens"]
    assert first["text_offset"][-4:] == [
        place + len(PROMPT) for place in alone["logprobs"]["text_offset"]
    ]
    assert answer["choices"][1]["logprobs"] == first


def test_a_stream_says_the_same(front: Gateway) -> None:
    for fields in ({"max_tokens": 4, "n": 2}, {"max_tokens": 0, "return_token_ids": True}):
        body = {"prompt": [PROMPT, "x"], "echo": True, "logprobs": 1, **fields}
        chunks = list(stream(front.url + PATH, body))
        whole = post(front, **body).json()["choices"]
        reasons = finish_reasons(chunks)
        for choice in whole:
            mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
            assert "".join(one["text"] for one in mine) == choice["text"]
            found = [one["logprobs"] for one in mine if one["logprobs"]]
            joined = {key: [x for one in found for x in one[key]] for key in choice["logprobs"]}
            assert joined == choice["logprobs"]
            assert reasons[choice["index"]] == choice["finish_reason"]


def test_the_prompt_alone_may_be_asked_for_without_logprobs(front: Gateway) -> None:
    (choice,) = post(front, echo=True).json()["choices"]
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == (PROMPT, "length", None)


def test_max_tokens_of_zero_without_the_prompt_is_refused_by_name(front: Gateway) -> None:
    refused = post(front)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_tokens"
