"""The gateway's settings. The environment is read here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice_gateway.logs import LogFormat
from sluice_gateway.output.formats import detect

S = TypeVar("S", bound=BaseSettings)

DNS_SCHEME = "dns:///"


class SettingsError(Exception):
    """A setting has a value that cannot be used; the message is one line."""


def _check_address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) <= 65_535):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080")
    return value


def _check_addresses(value: str) -> str:
    targets = split_list(value)
    if not targets:
        raise ValueError("expected HOST:PORT, a comma list of them, or dns:///name:port")
    for target in targets:
        _check_address(target.removeprefix(DNS_SCHEME))
    return value


def _check_tool_format(value: str) -> str:
    detect("", tools=value)
    return value


def _check_reasoning_format(value: str) -> str:
    detect("", reasoning=value)
    return value


def split_list(value: str) -> tuple[str, ...]:
    """The parts of a comma list, without repeats, in their order."""
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


class Settings(BaseSettings):
    """What a gateway is told. Every field is an environment variable of the same name."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    gateway_address: Annotated[str, AfterValidator(_check_address)] = Field(
        "127.0.0.1:8080", description="Where HTTP listens."
    )
    worker_addresses: Annotated[str, AfterValidator(_check_addresses)] = Field(
        "127.0.0.1:50051",
        description="Workers: a comma list of HOST:PORT, or `dns:///name:port`, re-resolved.",
    )
    dns_refresh_seconds: float = Field(
        5.0, gt=0, le=300, description="How often `dns:///` names are resolved again."
    )
    queue_max: int = Field(
        256, ge=0, description="Rows that may wait per model beyond what its workers batch."
    )
    wait_max_seconds: float = Field(
        600.0, gt=0, description="The longest that `x-sluice-wait` may wait for a model."
    )
    worker_silence_seconds: float = Field(
        3.0, gt=0, description="A worker that says nothing for so long is lost."
    )
    failover_seconds: float = Field(
        20.0,
        ge=0,
        description="How long a request whose worker was lost may look for another to go on with.",
    )
    keepalive_seconds: float = Field(
        15.0, gt=0, description="A stream with no token for so long gets a comment."
    )
    max_body_bytes: ByteSize = Field(
        ByteSize(8 << 20), gt=0, description="The largest request body (`8MiB`)."
    )
    api_keys_file: Path | None = Field(
        None, description="File of API keys, one a line; re-read when it changes. Unset: no keys."
    )
    status_page: bool = Field(
        True, description="Show the status page at `/`. It needs no key and holds no data."
    )
    chat_template_kwargs: str = Field(
        "enable_thinking,thinking",
        description="Keys that clients may send in `chat_template_kwargs`, a comma list.",
    )
    tool_format: Annotated[str, AfterValidator(_check_tool_format)] = Field(
        "auto",
        description="How models write tool calls: a name from"
        " [the table](docs/architecture.md#tools-reasoning-and-structured-output), `none`, or"
        " `auto` to ask each one's chat template.",
    )
    reasoning_format: Annotated[str, AfterValidator(_check_reasoning_format)] = Field(
        "auto", description="The same for reasoning."
    )
    prompt_threads: int = Field(
        2, ge=1, le=64, description="Threads that render templates and tokenize."
    )
    prompt_seconds: float = Field(
        10.0, gt=0, description="The longest that one prompt may take to render."
    )
    client_stall_seconds: float = Field(
        60.0, gt=0, description="A client that takes nothing of its stream for so long is left."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="How long running streams may go on after SIGTERM."
    )
    log_format: LogFormat = Field(
        "console", description="How it is logged: `console` for people, `json` for machines."
    )
    log_prompts: bool = Field(
        False, description="Log what was asked and answered with each request."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What is logged."
    )

    @property
    def template_kwargs_allowed(self) -> frozenset[str]:
        """``chat_template_kwargs`` as a set."""
        return frozenset(split_list(self.chat_template_kwargs))


EXPORTERS = ("otlp", "console", "none")

#: Baggage is not used for anything.
PROPAGATORS = ("tracecontext", "baggage", "none")

OtlpProtocol = Literal["grpc", "http/protobuf"]


def _check_exporters(value: str) -> str:
    if not set(split_list(value)) <= set(EXPORTERS):
        raise ValueError(f"expected one of {', '.join(EXPORTERS)}, or a comma list of them")
    return value


def _check_propagators(value: str) -> str:
    if not set(split_list(value)) <= set(PROPAGATORS):
        raise ValueError(f"expected one of {', '.join(PROPAGATORS)}, or a comma list of them")
    return value


def _check_capture(value: Any) -> Any:
    # The convention's later values; events are not written, so EVENT_ONLY asks for nothing.
    named = {"SPAN_ONLY": True, "SPAN_AND_EVENT": True, "EVENT_ONLY": False, "NO_CONTENT": False}
    return named.get(value.upper(), value) if isinstance(value, str) else value


class TraceSettings(BaseSettings):
    """Those of OpenTelemetry's variables that say whether there are traces, and how they go.

    Its SDK reads the others: endpoints and headers, sampler, batches, limits, the resource.
    """

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    otel_sdk_disabled: bool = False
    otel_traces_exporter: Annotated[str, AfterValidator(_check_exporters)] | None = None
    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_traces_endpoint: str | None = None
    otel_exporter_otlp_protocol: OtlpProtocol | None = None
    otel_exporter_otlp_traces_protocol: OtlpProtocol | None = None
    otel_propagators: Annotated[str, AfterValidator(_check_propagators)] = "tracecontext,baggage"
    otel_instrumentation_genai_capture_message_content: Annotated[
        bool, BeforeValidator(_check_capture)
    ] = False

    @property
    def exporters(self) -> tuple[str, ...]:
        """Where traces go, by the names of the standard; empty: they are off."""
        if self.otel_sdk_disabled:
            return ()
        named = self.otel_traces_exporter
        if named is None and (
            self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        ):
            named = "otlp"
        return tuple(name for name in split_list(named or "") if name != "none")

    @property
    def protocol(self) -> OtlpProtocol:
        """How they go there with OTLP."""
        return self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol or "grpc"

    @property
    def takes_over(self) -> bool:
        """Whether a client's trace is taken over, as W3C's Trace Context has it."""
        names = split_list(self.otel_propagators)
        return "tracecontext" in names and "none" not in names

    @property
    def content(self) -> bool:
        """Whether what was asked and answered goes into spans."""
        return self.otel_instrumentation_genai_capture_message_content


def read_settings() -> Settings:
    """The settings from the environment. Raises SettingsError with a one-line message."""
    return _read(Settings)


def read_trace_settings() -> TraceSettings:
    """As read_settings, of traces."""
    return _read(TraceSettings)


def _read(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}={first['input']!r}: {reason}") from error
