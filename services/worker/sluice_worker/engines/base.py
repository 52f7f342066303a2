"""What an engine is to the service, and the only thing that engines share.

An engine turns prompts of token ids into rows of token ids. It knows nothing of
gRPC, of text or of the gateway; the service knows nothing of models.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from prometheus_client.metrics_core import Metric


class RowKey(NamedTuple):
    """Names one row in one worker: the session it came on, its id on that session."""

    session: int
    row_id: int


class Constraint(enum.Enum):
    """What kind of constraint a structured output is; one for one the contract's."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICES = "choices"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class StructuredOutput:
    """What a row's text must be.

    ``source`` is a JSON Schema as JSON text, a regular expression, a JSON list of strings to
    choose from, or a grammar in llguidance's Lark notation.
    """

    constraint: Constraint
    source: str


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """The most tokens of reasoning between two marks; see the contract's message."""

    tokens: int
    begin_id: int
    end_id: int
    begun: bool = False


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Ranges are checked before an engine sees one.

    The fields and their meaning are those of the contract's ``SamplingParams``.
    ``logprobs`` is None for no log-probabilities, else how many of the most likely
    tokens are reported beside the chosen one; ``prompt_logprobs`` is the same for the tokens of
    the prompt, of which a request's first row tells. ``seeded``: the draws have to follow from the
    rows' seeds; otherwise an engine may draw as it likes.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    allowed_token_ids: tuple[int, ...] = ()
    structured_output: StructuredOutput | None = None
    seeded: bool = False
    bad_words: tuple[tuple[int, ...], ...] = ()
    prompt_logprobs: int | None = None
    thinking_budget: ThinkingBudget | None = None


@dataclass(frozen=True, slots=True)
class RowSpec:
    """One row of a request. Draws at position p depend on ``seed`` and p alone."""

    key: RowKey
    seed: int
    generated_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt (at least one id) and the rows to generate from it (at least one).

    ``adapter`` is one of ``ModelInfo.adapters``, or empty for the model itself. Of rows that
    wait, those with the lower ``priority`` come first, and of equals those that came first.
    """

    prompt_ids: Sequence[int]
    sampling: SamplingParams
    rows: tuple[RowSpec, ...]
    request_id: str = ""
    adapter: str = ""
    priority: int = 0


class FinishReason(enum.Enum):
    """Why a row ended."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


class ErrorCode(enum.Enum):
    """What kind of error a request or a row met; one for one the contract's codes."""

    INVALID_ARGUMENT = "invalid_argument"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class RequestError(Exception):
    """A request that cannot be served; ``message`` is for the client to read."""

    def __init__(self, code: ErrorCode, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class RowStart:
    """How a row came to its first token: seconds in the queue, seconds of prefill."""

    queue_seconds: float
    prefill_seconds: float
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position; ``top`` is most likely first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Log-probabilities of prompt tokens from ``position`` on, which is at least 1."""

    position: int
    entries: Sequence[TokenLogprobs]


@dataclass(frozen=True, slots=True)
class RowFinish:
    """The end of a row. ``stop_token_id`` is the row's last token, with STOP."""

    reason: FinishReason
    stop_token_id: int | None = None
    error: RequestError | None = None


@dataclass(slots=True)
class RowOutput:
    """What one step produced for one row. ``logprobs`` is parallel to ``token_ids``.

    ``prompt_logprobs`` come in order, all of them before the row's first token or with it.
    """

    key: RowKey
    token_ids: list[int]
    start: RowStart | None = None
    logprobs: list[TokenLogprobs] | None = None
    finish: RowFinish | None = None
    prompt_logprobs: PromptLogprobs | None = None


@dataclass(slots=True)
class StepOutput:
    """What one engine step did.

    ``batch_size`` is the rows that the step computed (those in prefill counted in),
    ``seconds`` how long it took, ``prompt_tokens`` the prompt tokens it prefilled.
    """

    rows: list[RowOutput]
    batch_size: int
    seconds: float = 0.0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is; ``kv_cache_usage`` is a share, 0 to 1.

    ``prefix_cache_queries`` are prompt tokens looked up in the prefix cache since the start,
    ``prefix_cache_hits`` those found there. ``preemptions`` are the times since the start that a
    running row was put back for want of room in the KV cache.
    """

    rows_running: int
    rows_waiting: int
    kv_cache_usage: float
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A low-rank adapter that is loaded beside its model, served as a model of its own."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model is.

    ``max_model_len`` is the most tokens of prompt and output that one row may have,
    already lowered to what the KV cache can hold. ``vocab_size`` is the width of the
    logits. ``fingerprint`` changes when the numbers that the model computes may.
    ``structured_output`` says whether the engine honours ``SamplingParams.structured_output``.
    ``request_fields`` are the contract's later fields, by name, that it honours.
    """

    fingerprint: str
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    batch_max: int
    structured_output: bool = False
    adapters: tuple[AdapterInfo, ...] = ()
    request_fields: frozenset[str] = frozenset()


class Engine(Protocol):
    """A loaded model that steps on its own once started.

    ``submit``, ``abort`` and ``load`` are called from the service's thread and return
    at once. ``emit`` and ``fail`` are called from the engine's own thread.
    """

    @property
    def model(self) -> ModelInfo:
        """What was loaded."""

    def start(
        self, emit: Callable[[StepOutput], None], fail: Callable[[BaseException], None]
    ) -> None:
        """Begin to step. ``emit`` gets every step, those of long prompts' prefill too.

        ``fail`` is called at most once, when the engine can step no more.
        """

    def prepare(self, output: StructuredOutput) -> None:
        """Compile a structured output, so that ``submit`` finds it compiled.

        Called from a thread of the service's pool, as often as there are requests with one, and
        only when ``ModelInfo.structured_output``. May take long; bounded in time and memory.
        Raises RequestError that says which part cannot be honoured.
        """

    def submit(self, request: GenerationRequest) -> None:
        """Queue the request's rows. Raises RequestError if they can never be served."""

    def abort(self, keys: Iterable[RowKey]) -> None:
        """Drop rows, before the next step. Unknown keys are ignored; nothing is emitted."""

    def load(self) -> EngineLoad:
        """How busy the engine is now. Cheap: it is asked for each heartbeat."""

    def metrics(self) -> Iterable[Metric]:
        """Metrics of the engine's own, beside those that all engines have."""

    def close(self) -> None:
        """Stop stepping and free the model. Idempotent; waits for the step under way."""
