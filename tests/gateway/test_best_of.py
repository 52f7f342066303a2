from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.answer import CompletionAnswer
from sluice_gateway.best_of import BestOf
from sluice_gateway.choice import Choice
from sluice_gateway.generation import Generation, Signal
from sluice_gateway.inter_token import Intervals
from sluice_gateway.model import GenerationDefaults
from sluice_gateway.output.detokenizer import ByteDetokenizer
from sluice_gateway.output.machine import OutputMachine
from sluice_gateway.sampling import sampling_params
from sluice_gateway.schema import CompletionRequest, parse
from sluice_gateway.usage import Usage

from tests.processes import gateway, worker

LETTERS = [chr(97 + number) for number in range(26)]


class Names:
    def token_bytes(self, token_id: int) -> bytes:
        return LETTERS[token_id].encode()


def candidates(*scores: list[float]) -> list[Choice]:
    """Of each its tokens' log-probabilities; candidate i says the letter i."""
    params, seeds = pb.SamplingParams(), list(range(len(scores)))
    generation = Generation([1], params, seeds, Signal())
    made = []
    for index, (row, found) in enumerate(zip(generation.rows, scores, strict=True)):
        row.ids = [index] * len(found)
        row.logprobs = [(score, []) for score in found]
        row.finish = pb.RowFinish(reason=pb.FINISH_REASON_LENGTH)
        texts = ByteDetokenizer(LETTERS, [letter.encode() for letter in LETTERS])
        machine = OutputMachine(texts, Names())
        made.append(Choice(index, row, machine, wants_logprobs=False, intervals=Intervals()))
    return made


def answer_of(made: list[Choice], best_of: int, n: int, prompts: list[list[int]]) -> Any:
    answer = CompletionAnswer("id", 1, "m", choices=len(made), token_ids=True, prompt_ids=prompts)
    best = BestOf(answer, made, best_of=best_of, n=n)
    for choice in made:
        for event in choice.advance():
            best.add(choice.index, event)
    return httpx.Response(200, content=best.body(Usage(1, 1))).json()["choices"]


def test_the_best_by_mean_log_probability_come_first() -> None:
    made = candidates([-2.0], [-1.0, -1.5], [-0.5] * 4, [-3.0])
    found = answer_of(made, 4, 2, [[7]] * 4)
    assert [choice["text"] for choice in found] == ["cccc", "bb"]
    assert [choice["index"] for choice in found] == [0, 1]


def test_each_prompt_has_its_own_best_and_equals_keep_their_order() -> None:
    made = candidates([-2.0], [-2.0], [-9.0], [float("-inf")], [-3.0], [float("nan")])
    found = answer_of(made, 3, 1, [[7]] * 3 + [[8]] * 3)
    assert [choice["text"] for choice in found] == ["a", "e"]
    assert [choice["prompt_token_ids"] for choice in found] == [[7], [8]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", None),
        (',"best_of":2', 0),
        (',"best_of":2,"logprobs":3', 3),
        (',"n":2,"best_of":2', None),
    ],
)
def test_candidates_are_scored_only_where_some_are_left_out(
    fields: str, expected: int | None
) -> None:
    request = parse(f'{{"prompt":"x"{fields}}}'.encode(), CompletionRequest)
    params = sampling_params(request, GenerationDefaults(), 7)
    assert (params.logprobs if params.HasField("logprobs") else None) == expected


def test_all_that_was_generated_is_in_the_usage(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, ENGINE="fake") as fake, gateway(fake.address) as front:
        body = {"prompt": ["x", "y"], "n": 2, "best_of": 3, "max_tokens": 4, "echo": True}
        answer = httpx.post(front.url + "/v1/completions", json=body).json()
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert [choice["text"][0] for choice in answer["choices"]] == ["x", "x", "y", "y"]
        assert answer["choices"][0]["logprobs"] is None
        assert answer["usage"]["completion_tokens"] == 2 * 3 * 4
        assert answer["usage"]["prompt_tokens"] == 2
