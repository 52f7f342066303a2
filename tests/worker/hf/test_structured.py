"""Structured output: what ends well is what was asked for, and nobody else is touched."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from sluice_worker.engines.base import (
    Constraint,
    ErrorCode,
    FinishReason,
    RequestError,
    StructuredOutput,
    ThinkingBudget,
)
from sluice_worker.engines.hf import HfOptions, load, mask_workers
from sluice_worker.engines.hf.engine import HfEngine
from sluice_worker.engines.hf.mask_workers import GivenUp, MaskWorkers
from sluice_worker.grammars.store import SOURCE_LENGTH, Grammars
from tokenizers import Tokenizer

from tests.worker.hf import models, schemas
from tests.worker.hf.driver import Service, Stepper, request

TOKENIZER = Path(str(files("sluice_worker") / "demo_model" / "tokenizer.json"))
EOS = 2
SPECIAL = 5
#: Wider than the tokenizer: models pad their logits.
WIDTH = 3100
#: SCHEMAS=1000 is the long run.
SCHEMAS = int(os.environ.get("SCHEMAS", "60"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = models.build("llama", vocab_size=WIDTH, eos_token_id=EOS, max_position_embeddings=1024)
    path = models.save(model, tmp_path_factory.mktemp("structured"))
    shutil.copy(TOKENIZER, path)
    return path


@pytest.fixture(scope="module")
def engine(directory: Path) -> Iterator[HfEngine]:
    options = HfOptions(directory, dtype="float32", batch_max=16, num_threads=1)
    loaded = load(options, lambda *news: None)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def text() -> Any:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))

    def decode(ids: list[int]) -> str:
        assert max(ids, default=0) < tokenizer.get_vocab_size()
        return str(tokenizer.decode([token for token in ids if token != EOS],
                                    skip_special_tokens=False))  # fmt: skip

    return decode


def schema(value: Any) -> StructuredOutput:
    source = value if isinstance(value, str) else json.dumps(value)
    return StructuredOutput(Constraint.JSON_SCHEMA, source)


def regex(source: str) -> StructuredOutput:
    return StructuredOutput(Constraint.REGEX, source)


def choices(*values: str) -> StructuredOutput:
    return StructuredOutput(Constraint.CHOICES, json.dumps(values))


def lark(source: str) -> StructuredOutput:
    return StructuredOutput(Constraint.GRAMMAR, source)


def test_answers_to_random_schemas_are_valid_or_cut_off(engine: HfEngine, text: Any) -> None:
    stepper = Stepper(engine)
    sources = [schemas.random_schema(seed) for seed in range(SCHEMAS)]
    refusals = []
    for row, source in enumerate(sources):
        sampling = {"temperature": 1.0} if row % 3 else {}
        try:
            stepper.submit(
                request([7, 8, row % 50 + 9], row, seed=row, max_tokens=250,
                        structured_output=schema(source), **sampling)
            )  # fmt: skip
        except RequestError as error:
            refusals.append((source, error.message))
    results = stepper.run(100_000)
    finished = 0
    for row, finish in results.finish.items():
        if finish.reason is FinishReason.LENGTH:
            assert len(results.tokens[row]) == 250
            continue
        assert finish.reason is FinishReason.STOP, (sources[row], finish)
        assert finish.stop_token_id == EOS
        finished += 1
        answer = json.loads(text(results.tokens[row]))
        Draft202012Validator(json.loads(sources[row])).validate(answer)
    assert not refusals
    assert finished > 0.5 * len(results.finish)


#: Letters that are no letters to Python: circled and squared ones.
_SYMBOLS = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F18A)}


def is_word_behind_yes_or_no(value: str) -> bool:
    """As the engine's regular expressions have \\w: with marks, and of a newer Unicode."""
    found = re.fullmatch("(yes|no)/(.{1,3})", value)
    if found is None:
        return False
    kinds = ("L", "M", "N", "Pc", "Cn")  # Cn: not assigned yet, to this Python
    return all(
        unicodedata.category(char).startswith(kinds)
        or char in "\u200c\u200d"
        or ord(char) in _SYMBOLS
        for char in found[2]
    )


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 2.0, "top_p": 0.9}])
def test_regexes_choices_and_grammars_are_kept_to(
    sampling: dict[str, Any], engine: HfEngine, text: Any
) -> None:
    cases: list[tuple[StructuredOutput, Any]] = [
        (regex(r"[a-c]{2,9}-\d{3}"), re.compile(r"[a-c]{2,9}-\d{3}").fullmatch),
        (regex(r"^(yes|no)/(\w{1,3})$"), is_word_behind_yes_or_no),
        (regex("(a|aa){1,20}b"), re.compile("(a|aa){1,20}b").fullmatch),
        (choices("yes", "no", "yes and no"), {"yes", "no", "yes and no"}.__contains__),
        (choices("日本", 'q"\\\n\t', "<|im_end|>x", "\x01"),
         {"日本", 'q"\\\n\t', "<|im_end|>x", "\x01"}.__contains__),
        (lark('start: expr\nexpr: NUM | "(" expr ("+" | "*") NUM ")"\nNUM: /[1-9][0-9]{0,2}/'),
         lambda value: re.fullmatch(r"[0-9()+*]+", value) and eval(value) is not None),
    ]  # fmt: skip
    stepper = Stepper(engine)
    for row in range(8 * len(cases)):
        output = cases[row % len(cases)][0]
        stepper.submit(
            request([9, row], row, seed=row, max_tokens=90, structured_output=output, **sampling)
        )
    results = stepper.run()
    for row, finish in results.finish.items():
        output, check = cases[row % len(cases)]
        if finish.reason is FinishReason.LENGTH:
            assert output.constraint is Constraint.GRAMMAR
        else:
            assert finish.reason is FinishReason.STOP, finish
            assert check(text(results.tokens[row])), text(results.tokens[row])


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "frequency_penalty": 0.3}])
def test_other_rows_tokens_are_as_they_are_alone(
    sampling: dict[str, Any], engine: HfEngine
) -> None:
    prompts = models.prompts(6, 3, 60)

    def submit(stepper: Stepper, row: int, **more: Any) -> None:
        stepper.submit(request(prompts[row % 6], row, seed=row, logprobs=1, **sampling, **more))

    alone = {}
    numbers = {}
    for row in range(6):
        stepper = Stepper(engine)
        output = None if row % 2 else regex("[a-z ]{5,40}")
        submit(stepper, row, structured_output=output)
        results = stepper.run()
        alone[row], numbers[row] = results.tokens[row], results.logprobs[row]
    stepper = Stepper(engine)
    broken = _breaking(Stepper(engine))
    for row in range(6):
        submit(stepper, row, structured_output=None if row % 2 else regex("[a-z ]{5,40}"))
        stepper.step()
        if row == 2:
            stepper.scheduler.add(broken)
    results = stepper.run()
    assert {row: results.tokens[row] for row in range(6)} == alone
    assert {row: results.logprobs[row] for row in range(6)} == numbers
    assert results.finish[99].reason is FinishReason.ERROR
    error = results.finish[99].error
    assert error is not None
    assert error.code is ErrorCode.INTERNAL


def _breaking(stepper: Stepper) -> Any:
    """A row whose matcher breaks when it has gone some way."""
    asked = request([5, 6], 99, structured_output=regex("[a-z]{30}"), temperature=1.0)
    (row,) = stepper.engine.make_rows(asked)
    grammar = row.sampler.grammar
    assert grammar is not None
    advance = grammar.advance

    def break_at_five(token: int) -> None:
        advance(SPECIAL if len(grammar._tokens) == 5 else token)

    grammar.advance = break_at_five  # type: ignore[method-assign]
    return [row]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.3, "top_k": 200}])
def test_a_row_resumed_at_any_position_goes_on_identically(
    sampling: dict[str, Any], engine: HfEngine
) -> None:
    output = schema({"type": "object", "properties": {"a": {"type": "string", "maxLength": 9},
                     "b": {"type": "integer"}}, "required": ["a", "b"]})  # fmt: skip
    stepper = Stepper(engine)
    given = {"seed": 5, "max_tokens": 60, "structured_output": output, **sampling}
    stepper.submit(request([7, 8, 9], 0, **given))
    whole = stepper.run().tokens[0]
    assert len(whole) > 5
    stepper = Stepper(engine)
    for cut in range(1, len(whole)):
        stepper.submit(request([7, 8, 9], cut, generated=whole[:cut], **given))
    results = stepper.run()
    for cut in range(1, len(whole)):
        assert results.tokens[cut] == whole[cut:]


def test_resuming_with_other_text_is_that_rows_error(engine: HfEngine) -> None:
    stepper = Stepper(engine)
    stepper.submit(request([7], 0, generated=[SPECIAL], structured_output=regex("[a-z]{9}")))
    stepper.submit(request([7], 1, structured_output=regex("[a-z]{9}")))
    results = stepper.run()
    error = results.finish[0].error
    assert error is not None
    assert (error.code, error.field) == (ErrorCode.INVALID_ARGUMENT, "rows.generated_ids")
    assert results.finish[1].reason is FinishReason.STOP


def test_rows_of_one_request_and_preempted_rows_have_places_of_their_own(
    engine: HfEngine, text: Any
) -> None:
    stepper = Stepper(engine)
    given = {"temperature": 1.0, "structured_output": regex("[a-z]{20,60}!"), "max_tokens": 80}
    stepper.submit(request([7, 8], 0, rows=6, seed=40, **given))
    for _ in range(9):
        stepper.step()
    stepper.scheduler._preempt(stepper.scheduler.running[-1])
    results = stepper.run()
    for row in range(6):
        stepper = Stepper(engine)
        stepper.submit(request([7, 8], row, seed=40 + row, **given))
        assert stepper.run().tokens[row] == results.tokens[row]
        if results.finish[row].reason is FinishReason.STOP:
            assert re.fullmatch("[a-z]{20,60}!", text(results.tokens[row]))
    assert len({tuple(results.tokens[row]) for row in range(6)}) == 6


# Ends


def test_the_end_comes_only_where_the_grammar_allows_it(engine: HfEngine, text: Any) -> None:
    stepper = Stepper(engine)
    pushed = {"logit_bias": {EOS: 100.0}}
    stepper.submit(request([7], 0, structured_output=regex("[a-z]{12}[0-9]*"), **pushed))
    stepper.submit(request([7], 1, structured_output=regex("[a-z]*"), **pushed))
    results = stepper.run()
    assert re.fullmatch("[a-z]{12}", text(results.tokens[0]))
    assert results.finish[0].stop_token_id == EOS
    assert results.tokens[1] == [EOS]


def test_a_complete_grammar_ends_the_row_whatever_else_was_asked(
    engine: HfEngine, text: Any
) -> None:
    stepper = Stepper(engine)
    yes = choices("yes")
    stepper.submit(request([7], 0, structured_output=yes, ignore_eos=True))
    stepper.submit(request([7], 1, structured_output=yes, min_tokens=20))
    stepper.submit(request([7], 2, structured_output=yes, logit_bias={EOS: -100.0}))
    results = stepper.run()
    for row in range(3):
        assert results.finish[row].reason is FinishReason.STOP
        assert text(results.tokens[row]) == "yes"


def test_min_tokens_and_ignore_eos_put_off_an_end_that_can_wait(
    engine: HfEngine, text: Any
) -> None:
    stepper = Stepper(engine)
    pushed = {"structured_output": regex("[a-z]*"), "logit_bias": {EOS: 100.0}, "max_tokens": 9}
    stepper.submit(request([7], 0, min_tokens=4, **pushed))
    stepper.submit(request([7], 1, ignore_eos=True, **pushed))
    results = stepper.run()
    assert len(results.tokens[0]) == 5
    assert results.finish[0].reason is FinishReason.STOP
    assert results.finish[1].reason is FinishReason.LENGTH
    assert EOS not in results.tokens[1]


def test_a_stop_id_that_is_no_text_is_an_end_and_one_of_text_ends_where_it_comes(
    engine: HfEngine, text: Any
) -> None:
    stepper = Stepper(engine)
    letters = regex("[a-z]{6}[0-9]*")
    stepper.submit(request([7], 0, structured_output=letters, stop_token_ids=(SPECIAL,),
                           logit_bias={SPECIAL: 100.0}))  # fmt: skip
    (row,) = stepper.engine.make_rows(request([7], 1, structured_output=letters))
    stepper.scheduler.add([row])
    results = stepper.run()
    assert re.fullmatch("[a-z]{6}", text(results.tokens[0][:-1]))
    assert results.finish[0].stop_token_id == SPECIAL
    stop = results.tokens[1][2]
    stepper = Stepper(engine)
    stepper.submit(request([7], 2, structured_output=letters, stop_token_ids=(stop,)))
    results = stepper.run()
    assert results.tokens[2][-1] == results.finish[2].stop_token_id == stop


def test_what_is_allowed_by_neither_fails_and_what_is_allowed_by_both_is_drawn(
    engine: HfEngine, text: Any
) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    a, b = tokenizer.token_to_id("a"), tokenizer.token_to_id("b")
    stepper = Stepper(engine)
    stepper.submit(
        request([7], 0, structured_output=regex("[ac]{5}"), allowed_token_ids=(a, b, EOS))
    )
    stepper.submit(request([7], 1, structured_output=regex("[cd]{5}"), allowed_token_ids=(a, b)))
    results = stepper.run()
    assert text(results.tokens[0]) == "aaaaa"
    error = results.finish[1].error
    assert error is not None
    assert (error.code, error.field) == (ErrorCode.INVALID_ARGUMENT, "sampling.allowed_token_ids")


def test_tokens_that_are_no_text_are_never_drawn_for_text(engine: HfEngine, text: Any) -> None:
    stepper = Stepper(engine)
    pushed = dict.fromkeys((0, 1, 5, 3075, WIDTH - 1), 90.0)
    for row, output in enumerate([
        regex("(?s:.{30})"), choices("<|im_start|>assistant"),
        schema({"const": "<|im_start|>"}), lark('start: "<|im_start|>" /a|b/'),
    ]):  # fmt: skip
        stepper.submit(request([7], row, structured_output=output, logit_bias=pushed))
    results = stepper.run()
    for row in range(4):
        assert not set(pushed) & set(results.tokens[row])
        assert results.finish[row].reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert text(results.tokens[1]) == "<|im_start|>assistant"


def test_logprobs_are_those_of_the_models_own_logits(engine: HfEngine) -> None:
    stepper = Stepper(engine)
    stepper.submit(request([7, 8], 0, max_tokens=1, logprobs=3))
    stepper.submit(request([7, 8], 1, max_tokens=1, logprobs=3, structured_output=regex("[xyz]+")))
    results = stepper.run()
    free, bound = results.logprobs[0][0], results.logprobs[1][0]
    assert free.top == bound.top
    assert bound.logprob < free.logprob


# What cannot be honoured


@pytest.mark.parametrize(
    ("output", "part"),
    [
        (schema('{"type": "object"'), "not JSON"),
        (schema("[1]"), "an object"),
        (schema("false"), "false"),
        (schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (schema({"type": "string", "format": "phone"}), "phone"),
        (schema({"type": "strin"}), "strin"),
        (schema({"$ref": "https://example.com/x"}), "https://example.com/x"),
        (schema({"$ref": "#/$defs/none"}), "none"),
        (schema({"type": "string", "pattern": "(?=a)b"}), "look-around"),
        (schema({"type": "integer", "minimum": 5, "maximum": 3}), "minimum"),
        (regex("("), "unclosed"),
        (regex(r"(a)\1"), "backreferences"),
        (choices(), "no choices"),
        (StructuredOutput(Constraint.CHOICES, "[1, 2]"), "strings"),
        (StructuredOutput(Constraint.CHOICES, "yes"), "not JSON"),
        (StructuredOutput(Constraint.CHOICES, '["\\ud800"]'), "characters"),
        (lark("start: foo"), "foo"),
        (lark("no grammar at all"), ""),
        (lark('{"grammars": []}'), ""),
        (lark("start: A\nA: /[a-c]+/ & /[d-f]+/"), "no text"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_part(
    output: StructuredOutput, part: str, engine: HfEngine
) -> None:
    for call in (
        engine.prepare,
        lambda output: engine.submit(request([7], 0, structured_output=output)),
    ):
        with pytest.raises(RequestError) as refused:
            call(output)
        assert refused.value.code is ErrorCode.INVALID_ARGUMENT
        assert refused.value.field == "structured_output"
        assert part in refused.value.message
        assert len(refused.value.message) < 400
        assert "\n" not in refused.value.message
        assert "%" not in refused.value.message  # nothing of the grammar that was made of it
    assert engine.load().rows_waiting == 0


def test_a_grammar_is_refused_with_the_place_in_it(engine: HfEngine) -> None:
    with pytest.raises(RequestError, match=r": line 2, column 4: .*foo"):
        engine.prepare(lark('start: "a" b\nb: foo'))
    with pytest.raises(RequestError) as refused:
        engine.prepare(schema({"type": "array", "uniqueItems": True}))
    assert "line" not in refused.value.message


def deep(kind: str, levels: int) -> str:
    text = '{"type":"string"}'
    for _ in range(levels):
        if kind == "array":
            text = '{"type":"array","items":' + text + "}"
        else:
            text = '{"type":"object","properties":{"a":' + text + '},"required":["a"]}'
    return text


BOMBS = {
    "nesting": schema(deep("array", 2000)),
    "objects": schema(deep("object", 1000)),
    "enum": schema({"enum": [f"value {i}" for i in range(20_000)]}),
    "optional properties": schema(
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(3000)}}
    ),
    "patterns": schema(
        {"allOf": [{"type": "string", "pattern": f"^.*{i}.*$"} for i in range(300)]}
    ),
    "repetition": lark('start: (("a"{0,1000}){0,1000}){0,1000}'),
    "long": regex("a" * (SOURCE_LENGTH + 1)),
    "rules": lark("start: " + " ".join(f"r{i}" for i in range(20_000))),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_within_bounds_and_others_go_on(kind: str, engine: HfEngine) -> None:
    before, begin = _resident(), time.monotonic()
    with pytest.raises(RequestError) as refused:
        engine.prepare(BOMBS[kind])
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert time.monotonic() - begin < 30
    assert _resident() - before < 100 << 20
    begin = time.monotonic()
    with pytest.raises(RequestError):
        engine.prepare(BOMBS[kind])
    assert time.monotonic() - begin < 0.5, "what was refused is remembered"
    engine.prepare(regex("fine"))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(
    ("options", "spaces"),
    [
        (None, True),
        ({"whitespace_flexible": True}, True),
        ({"whitespace_flexible": False}, False),
    ],
)
def test_a_schema_may_forbid_whitespace(options: dict[str, bool] | None, spaces: bool) -> None:
    wanted = {"type": "object", **({"x-guidance": options} if options else {})}
    grammars = Grammars(TOKENIZER, WIDTH, (EOS,))
    try:
        matcher = grammars.compiled(schema(wanted)).matcher()
        ids = Tokenizer.from_file(str(TOKENIZER)).encode('{\n\n"a"').ids
        assert (matcher.try_consume_tokens(ids) == len(ids)) == spaces
    finally:
        grammars.close()


def test_compiled_grammars_are_kept_within_bounds(directory: Path, monkeypatch: Any) -> None:
    from sluice_worker.grammars import store as grammars

    monkeypatch.setattr(grammars, "KEPT", 4)
    kept = Grammars(TOKENIZER, WIDTH, (EOS,))
    try:
        first = kept.compiled(regex("a0"))
        assert kept.compiled(regex("a0")) is first
        for i in range(9):
            kept.compiled(regex(f"a{i}"))
            kept.compiled(regex("a0"))
        assert kept.compiled(regex("a0")) is first
        assert len(kept._kept) == 4
        monkeypatch.setattr(grammars, "KEPT_BYTES", kept._bytes // 2)
        kept.compiled(regex("b"))
        assert kept._bytes <= grammars.KEPT_BYTES
    finally:
        kept.close()


def test_a_grammar_that_was_evicted_is_compiled_again_at_submit(engine: HfEngine) -> None:
    output = regex("[a-z]{3}gone")
    engine.prepare(output)
    assert engine._grammars is not None
    del engine._grammars._kept[output]
    stepper = Stepper(engine)
    stepper.submit(request([7], 0, structured_output=output))
    assert stepper.run().finish[0].reason is FinishReason.STOP


def test_a_model_without_a_tokenizer_says_so_and_refuses(directory: Path, tmp_path: Path) -> None:
    for file in directory.iterdir():
        if file.name != "tokenizer.json":
            shutil.copy(file, tmp_path)
    bare = load(HfOptions(tmp_path, num_threads=1, batch_max=1), lambda *news: None)
    assert not bare.model.structured_output
    with pytest.raises(RequestError) as refused:
        bare.submit(request([7], 0, structured_output=regex("a")))
    assert refused.value.field == "structured_output"
    bare.close()


# Masks


def test_a_mask_that_takes_too_long_fails_its_row_alone(
    engine: HfEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_workers, "MASK_SECONDS", 0.3)
    stepper = Stepper(engine)
    free = threading.Event()
    rows = stepper.engine.make_rows(request([7], 0, rows=3, structured_output=regex("[a-z]{9}")))
    for row in rows:
        grammar = row.sampler.grammar
        assert grammar is not None
        compute = grammar._compute

        def hang(compute: Any = compute) -> np.ndarray:
            free.wait(20)
            result: np.ndarray = compute()
            return result

        grammar._compute = hang  # type: ignore[method-assign]
    stepper.scheduler.add(rows)
    stepper.submit(request([7], 5, structured_output=regex("[a-z]{9}")))
    results = stepper.run()
    free.set()
    for row in range(3):
        error = results.finish[row].error
        assert error is not None
        assert error.code is ErrorCode.INVALID_ARGUMENT
    assert results.finish[5].reason is FinishReason.STOP


def test_jobs_behind_one_that_hangs_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_workers, "MASK_SECONDS", 0.2)
    workers = MaskWorkers(1)
    free = threading.Event()
    stuck, fine = workers.begin(free.wait), workers.begin(lambda: 7)
    assert fine.wait(workers) == 7
    with pytest.raises(GivenUp):
        stuck.wait(workers)
    free.set()
    with pytest.raises(ZeroDivisionError):
        workers.begin(lambda: 1 // 0).wait(workers)
    workers.close()


def test_what_a_grammars_rows_share_is_renewed_when_it_is_worn(
    engine: HfEngine, monkeypatch: pytest.MonkeyPatch, text: Any
) -> None:
    """Lexer states are shared and limited, so they would run out for those that come later."""
    from llguidance import LLParserLimits
    from sluice_worker.grammars import compiler

    limits = LLParserLimits(max_lexer_states=150, verbose_errors=False)
    monkeypatch.setattr(compiler, "_LIMITS", limits)
    output = regex("([a-z]{3,9}|[0-9]{4,9}|[A-Z]{2,30}){3}")
    stepper = Stepper(engine)
    for row in range(40):
        stepper.submit(request([7, row], row, seed=row, temperature=2.0, structured_output=output))
    results = stepper.run()
    reasons = {results.finish[row].reason for row in range(40)}
    assert FinishReason.ERROR not in reasons


def test_the_engines_thread_serves_structured_rows(directory: Path, text: Any) -> None:
    before = set(threading.enumerate())
    engine = load(HfOptions(directory, batch_max=4, num_threads=1), lambda *news: None)
    assert engine.model.structured_output
    service = Service(engine)
    chance = random.Random(1)
    outputs = [regex("[a-z]{4,30}"), choices("left", "right"), None]
    for row in range(24):
        output = outputs[row % 3]
        if output is not None:
            engine.prepare(output)
        engine.submit(request([7, chance.randrange(3000)], row, temperature=1.0, seed=row,
                              structured_output=output))  # fmt: skip
    results = service.wait(*range(24))
    for row in range(1, 24, 3):
        assert text(results.tokens[row]) in ("left", "right")
    engine.close()
    assert set(threading.enumerate()) <= before


def test_reasoning_before_a_grammar_is_ended_by_its_budget(engine: HfEngine, text: Any) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    begin, end = tokenizer.token_to_id("<think>"), tokenizer.token_to_id("</think>")
    grammar = f'start: TEXT? <[{end}]> ("yes" | "no")\nTEXT: /(?s:.+)/\n'
    output = StructuredOutput(Constraint.GRAMMAR, grammar)
    stepper = Stepper(engine)
    budgets = (0, 1, 7, 20)
    for row, tokens in enumerate(budgets):
        budget = ThinkingBudget(tokens, begin, end, begun=True)
        stepper.submit(
            request(
                [9, 10, 11 + row],
                row,
                max_tokens=40,
                temperature=1.5,
                structured_output=output,
                thinking_budget=budget,
                # Nothing that the client asks keeps the reasoning from its end.
                logit_bias={end: -100.0},
                bad_words=((end,),),
                logprobs=0,
            )
        )
    results = stepper.run()
    for row, tokens in enumerate(budgets):
        ids = results.tokens[row]
        place = ids.index(end)
        assert tokens <= place <= tokens + 4  # a character that has begun is not cut
        assert text(ids[place + 1 :]) in ("yes", "no")
        assert results.finish[row].reason is FinishReason.STOP
        assert len(results.logprobs[row]) == len(ids)


def test_reasoning_is_not_ended_within_a_character(engine: HfEngine, text: Any) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    half, end = tokenizer.token_to_id("â"), tokenizer.token_to_id("</think>")
    grammar = f'start: TEXT? <[{end}]> ("yes" | "no")\nTEXT: /(?s:.+)/\n'
    stepper = Stepper(engine)
    stepper.submit(
        request(
            [9, 10, 11],
            0,
            max_tokens=40,
            structured_output=StructuredOutput(Constraint.GRAMMAR, grammar),
            thinking_budget=ThinkingBudget(1, 0, end, begun=True),
            logit_bias={half: 100.0},
        )
    )
    ids = stepper.run().tokens[0]
    place = ids.index(end)
    assert ids[0] == half
    assert 1 < place <= 3  # a character of three bytes, which a token may have two of
    assert text(ids[place + 1 :]) in ("yes", "no")
