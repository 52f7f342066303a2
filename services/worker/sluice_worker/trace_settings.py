"""The settings of traces: OpenTelemetry's standard variables that decide something here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_settings import BaseSettings, SettingsConfigDict

EXPORTERS = ("otlp", "console", "none")

OtlpProtocol = Literal["grpc", "http/protobuf"]


def _check_exporters(value: str) -> str:
    if not {part.strip() for part in value.split(",")} <= set(EXPORTERS):
        raise ValueError(f"expected one of {', '.join(EXPORTERS)}, or a comma list of them")
    return value


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
        names = (part.strip() for part in (named or "none").split(","))
        return tuple(name for name in names if name != "none")

    @property
    def protocol(self) -> OtlpProtocol:
        """How they go there with OTLP."""
        return self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol or "grpc"
