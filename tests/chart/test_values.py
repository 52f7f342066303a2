"""Wrong values are refused with a message that names them."""

from __future__ import annotations

import json
from typing import Any

import helm_python
import pytest
from sluice_gateway.settings import Settings as GatewaySettings

from tests.chart.release import CHART, Values, chart, render

HUB = {"source": "org/m"}
PVC = {"type": "pvc"}
TWO_NODES: Values = {"device": "cuda", "nodes": 2, "settings": {"tpSize": 2}}


def model(**options: Any) -> Values:
    return {"models": {"m": {**HUB, **options}}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gatway": {}}, ["gatway"]),
        ({"gateway": {"replica": 3}}, ["gateway", "replica"]),
        ({"gateway": {"replicas": "three"}}, ["gateway", "replicas"]),
        ({"gateway": {"settings": {"queuMax": 3}}}, ["gateway", "settings", "queuMax"]),
        ({"gateway": {"settings": {"maxBodyBytes": "much"}}}, ["maxBodyBytes"]),
        ({"gateway": {"settings": {"logLevel": "info"}}}, ["logLevel"]),
        ({"gateway": {"service": {"port": 0}}}, ["service", "port"]),
        ({"gateway": {"image": {"digest": "abc"}}}, ["image", "digest"]),
        ({"gateway": {"apiKeys": {"keys": ["secret"]}}}, ["apiKeys", "keys"]),
        ({"gateway": {"extraWorkerAddresses": ["nowhere"]}}, ["extraWorkerAddresses"]),
        ({"models": {"M": HUB}}, ["models", "M"]),
        ({"models": {"m" * 41: HUB}}, ["models", "m" * 41]),
        ({"models": {"m": {}}}, ["models", "m", "source"]),
        (model(source="http://x"), ["m", "source"]),
        (model(source="pvc://claim"), ["m", "source"]),
        (model(device="tpu"), ["m", "device"]),
        (model(setings={}), ["m", "setings"]),
        (model(settings={"batchMax": 0}), ["settings", "batchMax"]),
        (model(settings={"dtype": "float8"}), ["settings", "dtype"]),
        # As Kubernetes writes amounts, and not the services.
        (model(settings={"kvCacheBytes": "2Gi"}), ["settings", "kvCacheBytes"]),
        (model(settings={"kvCacheBytes": 0}), ["settings", "kvCacheBytes"]),
        (model(settings={"kvCacheBytes": "0GiB"}), ["settings", "kvCacheBytes"]),
        ({"bindAddress": "::"}, ["bindAddress"]),
        (model(settings={"gpuMemoryUtilization": 0}), ["settings", "gpuMemoryUtilization"]),
        (model(settings={"gpuMemoryUtilization": 90}), ["settings", "gpuMemoryUtilization"]),
        (model(settings={"quantization": "fp8 --x"}), ["settings", "quantization"]),
        (model(nodes=0), ["m", "nodes"]),
        (model(loraModules={"a,b": "org/a"}), ["loraModules", "a,b"]),
        (model(loraModules={"a": "org/a,b=org/b"}), ["loraModules", "a"]),
        (model(loraModules={"a": "adapter"}), ["loraModules", "a"]),
        # An empty text would be the default, and not nothing.
        ({"gateway": {"settings": {"chatTemplateKwargs": ""}}}, ["chatTemplateKwargs"]),
        ({"gateway": {"settings": {"maxBodyBytes": ""}}}, ["maxBodyBytes"]),
        (model(cache={"type": "nfs"}), ["cache", "type"]),
        (model(cache={"accessModes": []}), ["cache", "accessModes"]),
        (model(hfToken={"value": "hf_abc"}), ["hfToken", "value"]),
        (model(autoscaling={"type": "vpa"}), ["autoscaling", "type"]),
        ({"modelDefaults": {"tpu": {}}}, ["modelDefaults", "tpu"]),
        ({"modelDefaults": {"all": {"source": "x"}}}, ["modelDefaults", "source"]),
        ({"monitoring": {"podMonitor": {"interval": "often"}}}, ["podMonitor", "interval"]),
        # What contradicts itself.
        (model(settings={"tpSize": 2}), ["models.m.settings.tpSize", "cuda"]),
        (model(settings={"ppSize": 2}), ["models.m.settings.ppSize", "cuda"]),
        (model(settings={"quantization": "fp8"}), ["models.m.settings.quantization", "cuda"]),
        (model(settings={"vllmArgs": "--x"}), ["models.m.settings.vllmArgs", "cuda"]),
        (model(loraModules={"a": "org/a"}), ["models.m.loraModules", "cuda"]),
        (model(nodes=2, settings={"engine": "fake"}), ["models.m.nodes", "fake", "cuda"]),
        (model(device="cuda", nodes=2), ["models.m.nodes is 2", "1 GPUs"]),
        (model(**TWO_NODES, cache=PVC), ["models.m.nodes is 2", "ReadWriteMany"]),
        (model(**TWO_NODES, strategy={"type": "Recreate"}), ["models.m.strategy", "nodes"]),
        (
            model(**TWO_NODES, loraModules={"a": "pvc://c/a"}),
            ["models.m.nodes is 2", "sourceAccessModes"],
        ),
        (
            model(device="cuda", settings={"tpSize": 2}, shm={"size": ""}),
            ["models.m.shm.size", "shared memory"],
        ),
        (
            model(device="cuda", extraVolumeMounts=[{"name": "x", "mountPath": "/dev/shm"}]),
            ["models.m.extraVolumeMounts", "shm.size"],
        ),
        (model(device="cuda", settings={"engine": "hf"}), ["models.m.settings.engine", "cpu"]),
        (model(cache={"type": "existingClaim"}), ["models.m.cache.claimName"]),
        (model(cache={"claimName": "c"}), ["models.m.cache.claimName", "existingClaim"]),
        (model(download={"enabled": True}), ["models.m.download.enabled", "emptyDir"]),
        (
            model(source="pvc://c/m", cache=PVC, download={"enabled": True}),
            ["models.m.download.enabled", "pvc://c/m"],
        ),
        (
            model(autoscaling={"type": "hpa", "minReplicas": 5}),
            ["models.m.autoscaling.minReplicas"],
        ),
        (model(autoscaling={"type": "keda"}), ["models.m.autoscaling.keda.serverAddress"]),
        (
            model(extraEnv=[{"name": "HF_TOKEN", "value": "hf_abc"}]),
            ["models.m.extraEnv", "hfToken.existingSecret"],
        ),
        (
            model(extraEnv=[{"name": "BATCH_MAX", "value": "4"}]),
            ["models.m.extraEnv", "BATCH_MAX"],
        ),
        (
            model(extraEnv=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            ["models.m.extraEnv", "A is there twice"],
        ),
        # Nulls that take out what a manifest needs.
        ({"gateway": {"replicas": None}}, ["gateway", "replicas"]),
        ({"gateway": {"settings": {"drainSeconds": None}}}, ["settings", "drainSeconds"]),
        ({"gateway": {"podSecurityContext": None}}, ["gateway", "podSecurityContext"]),
        ({"bindAddress": None}, ["bindAddress"]),
        ({"commonLabels": None}, ["commonLabels"]),
        ({"modelDefaults": {"all": {"replicas": None}}}, ["modelDefaults", "replicas"]),
        (
            {"modelDefaults": {"all": {"settings": {"drainSeconds": None}}}},
            ["modelDefaults/all/settings", "drainSeconds"],
        ),
        (
            {"gateway": {"extraEnv": [{"name": "WORKER_ADDRESSES", "value": "x:1"}]}},
            ["gateway.extraEnv", "WORKER_ADDRESSES"],
        ),
        ({"gateway": {"extraWorkerAddresses": ["host:65536"]}}, ["extraWorkerAddresses"]),
        ({"gateway": {"image": {"repository": ""}}}, ["image.repository"]),
        ({"fullnameOverride": "1st"}, ["fullnameOverride"]),
        ({"models": {"demo": {"enabled": False}}}, ["models", "extraWorkerAddresses"]),
        ({"ingress": {"enabled": True}}, ["ingress.hosts"]),
        ({"httpRoute": {"enabled": True}}, ["httpRoute.parentRefs"]),
        (
            {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
            ["gateway.autoscaling.minReplicas"],
        ),
        (
            {"monitoring": {"prometheusRule": {"enabled": True, "disabled": ["Nope"]}}},
            ["monitoring.prometheusRule.disabled", "Nope"],
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: Values, words: list[str]) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        validated(values)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("amount", ["2GiB", "0.5 GiB", "2G", "512MB", 1024, ""])
def test_amounts_that_the_services_read_are_taken(amount: str | int) -> None:
    validated(model(settings={"kvCacheBytes": amount}))


@pytest.mark.parametrize("keys", ["enable_thinking", "a, b", ","])
def test_keys_of_the_chat_template_may_be_some_or_none(keys: str) -> None:
    validated({"gateway": {"settings": {"chatTemplateKwargs": keys}}})
    assert GatewaySettings(chat_template_kwargs=keys).template_kwargs_allowed == frozenset(
        filter(None, keys.replace(" ", "").split(","))
    )


@pytest.mark.parametrize("name", ["1st", "my.release"])
def test_a_release_whose_services_could_have_no_name_is_refused(name: str) -> None:
    with pytest.raises(helm_python.HelmError, match="fullnameOverride"):
        render(name=name)
    render({"fullnameOverride": "mine"}, name=name)


def validated(values: Values) -> None:
    """What an installation does: the schema first, then the templates."""
    chart().validate_schema(values)
    render(values)


def test_a_refused_token_is_not_shown() -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        validated(model(extraEnv=[{"name": "HF_TOKEN", "value": "hf_abc"}]))
    assert "hf_abc" not in str(refused.value)


def test_the_schema_is_closed_but_for_what_goes_through_as_it_is() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_on_purpose = {"raw", "global", "items"}
    found = []

    def look(node: Any, name: str) -> None:
        if isinstance(node, dict):
            is_object = node.get("type") == "object" and "additionalProperties" not in node
            if is_object and name not in open_on_purpose:
                found.append(name)
            for key, value in node.items():
                look(value, key)
        elif isinstance(node, list):
            for each in node:
                look(each, name)

    look(schema, "")
    assert found == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = schema
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return resolve(node["allOf"][0]) if "allOf" in node else node

    def compare(values: dict[str, Any], node: dict[str, Any], path: str) -> None:
        properties = resolve(node).get("properties")
        if properties is None:
            return
        known = set(properties) - {"global"}
        # A device's defaults are few of those of all.
        assert (known == set(values)) or path.startswith((".modelDefaults.c", ".models.")), (
            f"{path}: {known ^ set(values)}"
        )
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, properties[key], f"{path}.{key}")

    compare(chart().values, schema, "")
