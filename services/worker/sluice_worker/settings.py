"""The worker's settings. The environment is read here and in ``trace_settings.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice_worker.adapter_list import Adapters
from sluice_worker.logs import LogFormat
from sluice_worker.trace_settings import TraceSettings

EngineName = Literal["hf", "vllm", "fake"]


def _check_address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) <= 65_535):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:50051")
    return value


Address = Annotated[str, AfterValidator(_check_address)]

#: Which engine serves a device when ENGINE does not say.
ENGINE_BY_DEVICE: dict[str, EngineName] = {"cpu": "hf", "cuda": "vllm"}

#: vLLM's BATCH_MAX when it is not set: a GPU is far from busy with the 32 rows that suit a CPU.
VLLM_BATCH_MAX = 256

#: What only vLLM can do, and the values that ask for nothing.
_VLLM_ONLY: dict[str, Any] = {
    "tp_size": 1,
    "pp_size": 1,
    "node_count": 1,
    "quantization": None,
    "vllm_args": "",
}


class SettingsError(Exception):
    """A setting has a value that cannot be used; the message is one line."""


class FakeSettings(BaseSettings):
    """What drives the fake engine (``ENGINE=fake``), for tests and benchmarks."""

    model_config = SettingsConfigDict(env_prefix="FAKE_", frozen=True, env_ignore_empty=True)

    step_ms: float = Field(0.0, ge=0, description="How long one engine step takes.")
    prefill_ms: float = Field(0.0, ge=0, description="How long a prompt takes before its row.")
    load_ms: float = Field(0.0, ge=0, description="How long loading the model takes.")
    load_until: Path | None = Field(
        None, description="Loading the model takes until this file is there."
    )
    text: str = Field("", description="What every row says, over and over; empty: a pangram.")
    tokens: int = Field(0, ge=0, description="Rows end after so many tokens; 0: at max_tokens.")
    crash_after_steps: int = Field(0, ge=0, description="The process exits at this step.")
    hang_after_steps: int = Field(0, ge=0, description="The engine stops stepping at this step.")
    fail_after_steps: int = Field(0, ge=0, description="The engine reports its own death.")


class Settings(BaseSettings):
    """What a worker is told. Every field is an environment variable of the same name."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, protected_namespaces=())

    worker_address: Address = Field("127.0.0.1:50051", description="Where gRPC listens.")
    metrics_address: Address = Field(
        "127.0.0.1:9464", description="Where `/metrics` is served over HTTP."
    )
    model_id: str = Field(
        "demo", min_length=1, description="`demo`, a local directory, or a hub id (`org/name`)."
    )
    model_revision: str | None = Field(
        None, description="Branch, tag or commit of a hub model; default: its main branch."
    )
    models_dir: str = Field(
        "/models",
        min_length=1,
        description="Where volumes are mounted: `MODEL_ID=pvc://CLAIM/PATH` is `CLAIM/PATH` in it.",
    )
    download_stall_seconds: float = Field(
        120.0, gt=0, description="A download that moves no byte for so long has failed."
    )
    download_connections: int = Field(
        4, ge=1, le=32, description="Files of a model that are downloaded at once."
    )
    allow_pickle: bool = Field(
        False,
        description="Take pickled weights where there is no safetensors. A risk: know the author.",
    )
    model_device: Literal["cpu", "cuda"] = Field(
        "cpu", description="`cpu` or `cuda`. With `ENGINE=vllm`, if not set: what vLLM finds."
    )
    engine: EngineName | None = Field(
        None, description="`hf`, `vllm` or `fake`; default: `hf` on cpu, `vllm` on cuda."
    )
    served_model_name: str | None = Field(
        None, min_length=1, description="The model's name in the API; default: from MODEL_ID."
    )
    batch_max: int = Field(
        32, ge=1, le=1024, description="The most rows of one engine step; with vLLM: `256`."
    )
    batch_delay_ms: float = Field(
        2.0,
        ge=0,
        le=10_000,
        description="How long an idle engine waits for company. Has no meaning with vLLM.",
    )
    queue_max: int = Field(
        256, ge=0, le=100_000, description="The most rows that may wait; more are refused."
    )
    max_model_len: int | None = Field(
        None, ge=1, description="Most tokens of prompt and output; default: the model's own."
    )
    kv_cache_bytes: ByteSize | None = Field(
        None, gt=0, description="Memory for keys and values (`2GiB`); default: by free memory."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16", "int8"] = Field(
        "auto",
        description="Of the weights; `auto`: the checkpoint's own. `int8`: hf engine only.",
    )
    prefill_chunk: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Prompt tokens computed beside the rows of one step (hf engine only).",
    )
    prefill_step_ms: float = Field(
        80.0,
        ge=0,
        le=60_000,
        allow_inf_nan=False,
        description="How long a step may take while rows generate: of prompts as much is computed "
        "beside them as fits, 64 tokens at least. `0`: no bound (hf engine only).",
    )
    enable_prefix_caching: bool = Field(
        True, description="Keep the keys and values of prompts for those that begin alike."
    )
    num_threads: int | None = Field(
        None,
        ge=1,
        description="Threads of the arithmetic; default: the cores allowed (hf engine only).",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. A risk: know its author."
    )
    lora_modules: Adapters = Field(
        (),
        description="Adapters (LoRA) as `NAME=SOURCE,...`, each served as a model of its own: a "
        "directory, `pvc://CLAIM/PATH` or a hub id (vllm engine only).",
    )
    tp_size: int = Field(
        1, ge=1, description="GPUs that share each layer, tensor parallelism (vllm engine only)."
    )
    pp_size: int = Field(
        1, ge=1, description="Stages of layers, pipeline parallelism (vllm engine only)."
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Share of a GPU's memory that vLLM takes (vllm engine only)."
    )
    quantization: str | None = Field(
        None,
        min_length=1,
        description="How the weights are quantized; default: as the checkpoint says (vllm engine "
        "only).",
    )
    vllm_args: str = Field(
        "", description="More arguments, as `vllm serve` has them (vllm engine only)."
    )
    node_count: int = Field(
        1, ge=1, description="Machines that share one model (vllm engine only)."
    )
    node_rank: int = Field(
        0, ge=0, description="Which of them this is; `0` is the one that gateways talk to."
    )
    leader_address: str | None = Field(
        None, min_length=1, description="Host of the machine with `NODE_RANK=0`."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="How long running rows may go on after SIGTERM."
    )
    engine_stall_seconds: float = Field(
        60.0, gt=0, description="An engine that makes no step for so long, with rows, has failed."
    )
    load_stall_seconds: float = Field(
        1800.0,
        gt=0,
        description="A load in which no byte and no state moves for so long has failed. "
        "vLLM compiles in silence, for minutes.",
    )
    log_format: LogFormat = Field(
        "console", description="How it is logged: `console` for people, `json` for machines."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What is logged."
    )
    fake: FakeSettings = Field(default_factory=FakeSettings, exclude=True)  # FAKE_*

    @model_validator(mode="before")
    @classmethod
    def _batch_of_vllm(cls, given: dict[str, Any]) -> dict[str, Any]:
        engine = given.get("engine") or ENGINE_BY_DEVICE.get(given.get("model_device", "cpu"))
        return {"batch_max": VLLM_BATCH_MAX, **given} if engine == "vllm" else given

    @model_validator(mode="after")
    def _engine_can_do_what_is_asked(self) -> Self:
        if self.engine_name != "vllm":
            for name, nothing in _VLLM_ONLY.items():
                value = getattr(self, name)
                if value != nothing:
                    raise ValueError(f"{name.upper()}={value} needs ENGINE=vllm; leave it out")
        if self.lora_modules and self.engine_name == "hf":
            raise ValueError("LORA_MODULES needs ENGINE=vllm; leave it out")
        if self.dtype == "int8" and self.engine_name == "vllm":
            raise ValueError("DTYPE=int8 needs ENGINE=hf; with vLLM, QUANTIZATION says such things")
        if self.engine_name == "hf" and self.model_device != "cpu":
            raise ValueError("ENGINE=hf runs on the CPU; set MODEL_DEVICE=cpu or ENGINE=vllm")
        return self

    @model_validator(mode="after")
    def _nodes_know_each_other(self) -> Self:
        if self.node_rank >= self.node_count:
            raise ValueError(f"NODE_RANK={self.node_rank} must be below NODE_COUNT")
        if self.node_count > 1 and not self.leader_address:
            raise ValueError("NODE_COUNT above 1 needs LEADER_ADDRESS, the host with NODE_RANK=0")
        if self.tp_size * self.pp_size % self.node_count:
            raise ValueError(
                f"TP_SIZE x PP_SIZE is {self.tp_size * self.pp_size}, which {self.node_count} "
                "machines (NODE_COUNT) cannot share evenly"
            )
        return self

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """The names under which adapters are served."""
        return tuple(name for name, _ in self.lora_modules)

    @property
    def engine_name(self) -> EngineName:
        """The engine, chosen by the device when not set."""
        return self.engine or ENGINE_BY_DEVICE[self.model_device]


S = TypeVar("S", bound=BaseSettings)


def read_settings(**overrides: str) -> Settings:
    """The settings from the environment, but for ``overrides``.

    Raises SettingsError with a one-line message.
    """
    return _read(lambda: Settings(fake=FakeSettings(), **overrides))  # type: ignore[arg-type]


def read_trace_settings() -> TraceSettings:
    """As read_settings, of traces."""
    return _read(TraceSettings)


def _read(make: Callable[[], S]) -> S:
    try:
        return make()
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from error


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    prefix = "FAKE_" if error.title == "FakeSettings" else ""
    name = prefix + "_".join(str(part) for part in first["loc"]).upper()
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name}={first['input']!r}: {reason}" if name else reason
