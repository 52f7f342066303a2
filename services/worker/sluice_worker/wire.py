"""From the contract's messages to the engine's types. Checks every value that comes in."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.engines.base import (
    Constraint,
    ErrorCode,
    GenerationRequest,
    ModelInfo,
    RequestError,
    RowKey,
    RowSpec,
    SamplingParams,
    StructuredOutput,
    ThinkingBudget,
)

#: Bounds that hold whatever the gateway checked: a worker has its own front door.
MAX_ROWS = 128
MAX_LOGPROBS = 20
MAX_LOGIT_BIAS = 1024
MAX_BIAS = 100.0
MAX_STOP_TOKEN_IDS = 1024
MAX_ALLOWED_IDS = 1024
#: Beyond these two, vLLM's model runner for GPUs fails as a whole.
MAX_BAD_WORDS = 128
MAX_BAD_WORD_IDS = 1024
MAX_CHOICES = 1024
MAX_CONSTRAINT_BYTES = 64 << 10

#: What came after the first release of the contract: an engine says if it honours them.
LATER_FIELDS = frozenset({"bad_words", "priority", "prompt_logprobs", "thinking_budget"})


def generation_request(session: int, submit: pb.Submit, model: ModelInfo) -> GenerationRequest:
    """The request in ``submit``. Raises RequestError that names the field at fault."""
    prompt_ids = list(submit.prompt_ids)
    _require(bool(prompt_ids), "prompt_ids", "the prompt has no tokens")
    _check_ids("prompt_ids", prompt_ids, model.vocab_size)
    _require(1 <= len(submit.rows) <= MAX_ROWS, "rows", f"must be 1 to {MAX_ROWS}")
    _check_later_fields(submit, model)
    sampling = sampling_params(submit.sampling, model)
    if len(prompt_ids) + sampling.max_tokens > model.max_model_len:
        raise RequestError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"This model's maximum context length is {model.max_model_len} tokens; the prompt has "
            f"{len(prompt_ids)} and {sampling.max_tokens} were asked for. Shorten either.",
            "max_tokens",
        )
    known = {adapter.name for adapter in model.adapters}
    _require(
        not submit.adapter or submit.adapter in known,
        "adapter",
        "this worker has no adapter of that name",
    )
    rows = tuple(_row_spec(session, row, sampling, model) for row in submit.rows)
    return GenerationRequest(
        prompt_ids, sampling, rows, submit.request_id, submit.adapter, submit.priority
    )


def _row_spec(session: int, row: pb.Row, sampling: SamplingParams, model: ModelInfo) -> RowSpec:
    generated = tuple(row.generated_ids)
    _check_ids("rows.generated_ids", generated, model.vocab_size)
    _require(
        len(generated) < sampling.max_tokens,
        "rows.generated_ids",
        "has max_tokens or more: nothing is left to generate",
    )
    return RowSpec(RowKey(session, row.row_id), row.seed, generated)


def sampling_params(sampling: pb.SamplingParams, model: ModelInfo) -> SamplingParams:
    """The engine's sampling parameters. Raises RequestError that names the field at fault."""
    _check_ranges(sampling)
    vocab_size = model.vocab_size
    _check_ids("logit_bias", sampling.logit_bias, vocab_size)
    _check_ids("stop_token_ids", sampling.stop_token_ids, vocab_size)
    _check_ids("allowed_token_ids", sampling.allowed_token_ids, vocab_size)
    _check_later_fields(sampling, model)
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias=dict(sampling.logit_bias),
        stop_token_ids=tuple(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
        allowed_token_ids=tuple(sampling.allowed_token_ids),
        seeded=sampling.seeded,
        structured_output=_structured_output(sampling, model),
        bad_words=_bad_words(sampling, vocab_size),
        prompt_logprobs=sampling.prompt_logprobs if sampling.HasField("prompt_logprobs") else None,
        thinking_budget=_thinking_budget(sampling, vocab_size),
    )


def _thinking_budget(sampling: pb.SamplingParams, vocab_size: int) -> ThinkingBudget | None:
    if not sampling.HasField("thinking_budget"):
        return None
    given, field = sampling.thinking_budget, "thinking_budget"
    _check_ids(field, (given.begin_id, given.end_id), vocab_size)
    differ = given.begun or given.begin_id != given.end_id
    _require(differ, field, "begin_id and end_id must be two tokens")
    return ThinkingBudget(given.tokens, given.begin_id, given.end_id, given.begun)


def _check_later_fields(message: pb.Submit | pb.SamplingParams, model: ModelInfo) -> None:
    """A gateway knows which of these an engine honours; this is for who does not look."""
    for field, _ in message.ListFields():
        known = field.name not in LATER_FIELDS or field.name in model.request_fields
        _require(known, field.name, "this model's engine cannot honour it")


def _bad_words(sampling: pb.SamplingParams, vocab_size: int) -> tuple[tuple[int, ...], ...]:
    words = tuple(tuple(word.ids) for word in sampling.bad_words)
    _require(len(words) <= MAX_BAD_WORDS, "bad_words", f"at most {MAX_BAD_WORDS} sequences")
    _require(all(words), "bad_words", "a sequence of no tokens would be barred everywhere")
    total = sum(map(len, words))
    _require(total <= MAX_BAD_WORD_IDS, "bad_words", f"at most {MAX_BAD_WORD_IDS} ids in all")
    for word in words:
        _check_ids("bad_words", word, vocab_size)
    return words


def _structured_output(sampling: pb.SamplingParams, model: ModelInfo) -> StructuredOutput | None:
    if not sampling.HasField("structured_output"):
        return None
    field = "structured_output"
    _require(model.structured_output, field, "this model's engine cannot keep to one")
    output = sampling.structured_output
    kind = output.WhichOneof("constraint")
    if kind is None:
        message = f"{field}: none that this worker knows; run the same release of both"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, message, field)
    if kind == "choices":
        choices = list(output.choices.choices)
        _require(0 < len(choices) <= MAX_CHOICES, field, f"must be 1 to {MAX_CHOICES} choices")
        source = json.dumps(choices, ensure_ascii=False)
    else:
        source = getattr(output, kind)
    size = len(source.encode())
    _require(0 < size <= MAX_CONSTRAINT_BYTES, field, f"must be 1 to {MAX_CONSTRAINT_BYTES} bytes")
    return StructuredOutput(Constraint(kind), source)


def _check_ranges(sampling: pb.SamplingParams) -> None:
    for name, low, high in (
        ("temperature", 0.0, 100.0),
        ("min_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
    ):
        _require(low <= getattr(sampling, name) <= high, name, f"must be from {low} to {high}")
    _require(0.0 < sampling.top_p <= 1.0, "top_p", "must be above 0 and at most 1")
    penalty = sampling.repetition_penalty
    _require(0.0 < penalty <= 100.0, "repetition_penalty", "must be above 0 and at most 100")
    _require(sampling.max_tokens >= 1, "max_tokens", "must be at least 1")
    _require(
        sampling.min_tokens <= sampling.max_tokens, "min_tokens", "must not be above max_tokens"
    )
    for name in ("logprobs", "prompt_logprobs"):
        _require(getattr(sampling, name) <= MAX_LOGPROBS, name, f"must be at most {MAX_LOGPROBS}")
    _require(
        len(sampling.logit_bias) <= MAX_LOGIT_BIAS, "logit_bias", f"at most {MAX_LOGIT_BIAS} ids"
    )
    # More of it is infinite over a temperature; nan is in no range.
    in_range = all(-MAX_BIAS <= bias <= MAX_BIAS for bias in sampling.logit_bias.values())
    _require(in_range, "logit_bias", f"must be from {-MAX_BIAS} to {MAX_BIAS}")
    count = len(sampling.allowed_token_ids)
    _require(count <= MAX_ALLOWED_IDS, "allowed_token_ids", f"at most {MAX_ALLOWED_IDS} ids")
    count = len(sampling.stop_token_ids)
    _require(count <= MAX_STOP_TOKEN_IDS, "stop_token_ids", f"at most {MAX_STOP_TOKEN_IDS} ids")


def _check_ids(field: str, ids: Iterable[int], vocab_size: int) -> None:
    top = max(ids, default=0)
    _require(top < vocab_size, field, f"token id {top} is outside the vocabulary of {vocab_size}")


def _require(condition: bool, field: str, reason: str) -> None:
    if not condition:
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"{field}: {reason}", field)
