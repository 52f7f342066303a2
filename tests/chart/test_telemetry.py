"""How the pods of a release log, and where their traces go."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.resources import OTELResourceDetector

from tests.chart.release import Object, Values, environment, render, rendered

ENDPOINT = "http://collector:4317"


def variables(each: Object) -> list[list[Object]]:
    """Those of each container that an object makes."""
    found: list[list[Object]] = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if "env" in node:
                found.append(node["env"])
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(each)
    return found


def test_by_default_logs_are_for_people_and_there_are_no_traces() -> None:
    release = rendered("default")
    for each in release.workloads():
        for found in variables(each):
            names = {variable["name"] for variable in found}
            assert {"name": "LOG_FORMAT", "value": "console"} in found
            assert not [name for name in names if name.startswith(("OTEL_", "POD_"))]


def test_both_services_log_and_trace_as_the_values_say() -> None:
    release = rendered("traces")
    services = [(release.gateway(), "sluice-gateway")]
    services += [(release.worker(model), "sluice-worker") for model in ("demo", "several")]
    for each, name in services:
        for found in variables(each):
            values = {each["name"]: each.get("value") for each in found}
            assert values["LOG_FORMAT"] == "json"
            assert values["OTEL_SERVICE_NAME"] == name
            assert values["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel-collector.monitoring:4318"
            assert values["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
            assert values["OTEL_TRACES_SAMPLER"] == "parentbased_traceidratio"
            assert values["OTEL_TRACES_SAMPLER_ARG"] == "0.1"
    assert len(variables(release.worker("several"))) == 2


def test_a_download_logs_as_the_rest_and_has_no_traces() -> None:
    (found,) = variables(rendered("traces").one("Job"))
    assert {"name": "LOG_FORMAT", "value": "json"} in found
    assert not [each for each in found if each["name"].startswith("OTEL_")]


def test_spans_name_their_pod_and_what_the_values_add(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in rendered("traces").workloads():
        for found in variables(each):
            names = [variable["name"] for variable in found]
            paths = {
                variable["name"]: variable["valueFrom"]["fieldRef"]["fieldPath"]
                for variable in found
                if "fieldRef" in variable.get("valueFrom", {})
            }
            assert paths["POD_NAME"] == "metadata.name"
            assert paths["POD_NAMESPACE"] == "metadata.namespace"
            # The kubelet puts in only what stands before.
            at = names.index("OTEL_RESOURCE_ATTRIBUTES")
            assert at > max(names.index("POD_NAME"), names.index("POD_NAMESPACE"))
            given = found[at]["value"]
            given = given.replace("$(POD_NAME)", "pod-1").replace("$(POD_NAMESPACE)", "llm")
            monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", given)
            assert dict(OTELResourceDetector().detect().attributes) == {
                "k8s.pod.name": "pod-1",
                "k8s.namespace.name": "llm",
                "deployment.environment.name": "prod, west",
                "team": "$(POD_NAME)",
            }


def test_a_sampler_is_only_set_where_one_is_named() -> None:
    found = environment(render({"tracing": {"endpoint": ENDPOINT}}).gateway())
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == ENDPOINT
    assert found["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
    assert not [name for name in found if "SAMPLER" in name]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"logFormat": "xml"}, "logFormat"),
        ({"tracing": {"endpoint": "collector:4317"}}, "endpoint"),
        ({"tracing": {"protocol": "http/json"}}, "protocol"),
        ({"tracing": {"sampler": "sometimes"}}, "sampler"),
        ({"tracing": {"samplerArg": "1.5"}}, "samplerArg"),
        ({"tracing": {"samplerArg": 0.1}}, "samplerArg"),
        ({"tracing": {"resourceAttributes": {"a b": "c"}}}, "'a b'"),
        ({"tracing": {"headers": "x"}}, "headers"),
    ],
)
def test_a_wrong_value_is_refused(values: Values, word: str) -> None:
    with pytest.raises(Exception, match=word):
        render(values)


def test_what_the_chart_sets_cannot_be_set_again() -> None:
    values: Values = {
        "tracing": {"endpoint": ENDPOINT},
        "gateway": {"extraEnv": [{"name": "OTEL_SERVICE_NAME", "value": "x"}]},
    }
    with pytest.raises(Exception, match="OTEL_SERVICE_NAME"):
        render(values)
    del values["tracing"]
    assert environment(render(values).gateway())["OTEL_SERVICE_NAME"] == "x"
