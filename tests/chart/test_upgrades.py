"""`helm upgrade` asks for nothing that cannot be changed, `helm uninstall` leaves nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest

from tests.chart.release import (
    CASES,
    Object,
    Release,
    Values,
    case_values,
    chart,
    component,
    model_of,
    one_model,
    render,
    rendered,
)

KEEP = "helm.sh/resource-policy"

#: Of every enabled model, one at a time.
OF_MODELS: dict[str, Values] = {
    "settings": {"settings": {"batchMax": 7, "drainSeconds": 99, "maxModelLen": 512}},
    "image": {"image": {"tag": "9.9"}},
    "replicas": {"replicas": 5},
    "source": {"source": "other/model"},
    "revision": {"revision": "v2"},
    "device": {"device": "cuda"},
    "nodes": {"device": "cuda", "nodes": 3, "settings": {"tpSize": 3}},
    "adapters": {"device": "cuda", "loraModules": {"new": "pvc://adapters/new"}},
    "name": {"servedModelName": "renamed"},
    "token": {"hfToken": {"existingSecret": "other-token"}},
    "cache size": {"cache": {"size": "2Ti"}},
    "cache class": {"cache": {"storageClassName": "other"}},
    "cache access": {"cache": {"accessModes": ["ReadWriteMany", "ReadOnlyMany"]}},
    "cache kept": {"cache": {"keep": False}},
    "cache type": {"cache": {"type": "pvc", "claimName": ""}},
    "download": {"download": {"enabled": True, "backoffLimit": 9}},
    "download resources": {"download": {"resources": {"limits": {"memory": "9Gi"}}}},
    "hpa": {"autoscaling": {"type": "hpa"}},
    "keda": {"autoscaling": {"type": "keda", "keda": {"serverAddress": "http://p:9090"}}},
    "strategy": {"strategy": {"type": "RollingUpdate"}},
    "labels": {"podLabels": {"new": "label", "sluice/model": "x"}},
    "annotations": {"podAnnotations": {"new": "annotation"}},
    "scheduling": {"nodeSelector": {"a": "b"}, "priorityClassName": "other"},
    "environment": {"extraEnv": [{"name": "NEW", "value": "x"}]},
    "memory": {"resources": {"limits": {"memory": "99Gi"}}, "shm": {"size": "9Gi"}},
}

#: Of the release.
OF_RELEASES: dict[str, Values] = {
    "labels": {"commonLabels": {"app.kubernetes.io/name": "x", "new": "label"}},
    "user": {"podSecurityContext": {"runAsUser": 4711}},
    "registry": {"imagePullSecrets": [{"name": "other"}], "serviceAccountName": "other"},
    "kubernetes": {"kubeVersion": "1.33.0"},
    "gateway": {"gateway": {"replicas": 9, "settings": {"queueMax": 1}, "podLabels": {"a": "b"}}},
    "service": {"gateway": {"service": {"type": "LoadBalancer", "port": 81, "nodePort": 0}}},
    "gateway hpa": {"gateway": {"autoscaling": {"enabled": True}}},
    "keys": {"gateway": {"apiKeys": {"existingSecret": "other"}}},
    "network": {"networkPolicy": {"enabled": False}},
    "another model": {"models": {"another": {"source": "org/another", "cache": {"type": "pvc"}}}},
    "monitoring": {
        "monitoring": {
            kind: {"enabled": True} for kind in ("serviceMonitor", "podMonitor", "prometheusRule")
        }
    },
}


def merged(values: Values, change: Values) -> Values:
    """As Helm merges one values file over another."""
    result = copy.deepcopy(values)
    for key, value in change.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = merged(old or {}, value) if both else copy.deepcopy(value)
    return result


def changes(values: Values) -> Iterator[tuple[str, Values]]:
    """The values with one thing changed."""
    for what, change in OF_RELEASES.items():
        yield what, merged(values, change)
    models = merged(chart().values, values)["models"]
    enabled = [key for key, one in models.items() if one.get("enabled", True)]
    for what, change in OF_MODELS.items():
        yield f"models: {what}", merged(values, {"models": dict.fromkeys(enabled, change)})


def fixed(each: Object) -> Any:
    """What of an object cannot be changed."""
    spec: Any = copy.deepcopy(each.get("spec"))
    match each["kind"]:
        case "Deployment":
            return spec["selector"]
        case "Job":
            return {key: spec.get(key) for key in ("template", "selector", "completions")}
        case "PersistentVolumeClaim":
            del spec["resources"]
            return spec
        case "Service":
            return spec.get("clusterIP")
        case "LeaderWorkerSet":
            return spec["leaderWorkerTemplate"]["size"]
        case _:
            return None


def release_of(values: Values) -> Release | None:
    """The release, or nothing if these values contradict themselves: nothing is applied then."""
    try:
        return render(values)
    except helm_python.HelmError as refused:
        if "models." not in str(refused):
            raise
        return None


@pytest.mark.parametrize("case", CASES)
def test_no_changed_value_touches_what_is_immutable(case: str) -> None:
    seen: dict[tuple[str, str], tuple[str, Any]] = {}
    tried = 0
    for what, values in [("nothing", case_values(case)), *changes(case_values(case))]:
        release = release_of(values)
        if release is None:
            continue
        tried += 1
        for each in release.objects:
            key = (each["kind"], each["metadata"]["name"])
            first, before = seen.setdefault(key, (what, fixed(each)))
            assert before == fixed(each), f"{key}: {first} and {what}"
    assert tried > (len(OF_RELEASES) + len(OF_MODELS)) / 2


def test_another_class_or_access_mode_makes_another_claim() -> None:
    def claim(**cache: Any) -> str:
        found: str = one_model(cache={"type": "pvc", **cache}).one("PersistentVolumeClaim")[
            "metadata"
        ]["name"]
        return found

    usual = claim()
    assert usual == claim(size="99Gi", keep=False) == "sluice-worker-m-cache"
    others = [
        claim(storageClassName="fast"),
        claim(storageClassName="-"),
        claim(accessModes=["ReadWriteMany"]),
    ]
    assert len({usual, *others}) == 4
    two = ["ReadWriteOnce", "ReadWriteMany"]
    assert claim(accessModes=two) == claim(accessModes=two[::-1])
    long = {"m" * 40: {"source": "org/m", "cache": {"type": "pvc", "storageClassName": "fast"}}}
    (name,) = (
        each["metadata"]["name"]
        for each in render({"models": long}, name="r" * 53).all("PersistentVolumeClaim")
    )
    assert len(name) <= 63


def test_other_nodes_make_another_group_behind_the_same_service() -> None:
    two, four = (one_model(device="cuda", nodes=nodes, settings={"tpSize": 4}) for nodes in (2, 4))
    groups = [each.one("LeaderWorkerSet")["metadata"]["name"] for each in (two, four)]
    assert groups == ["sluice-nodes2-m", "sluice-nodes4-m"]
    name = "sluice-worker-m"
    assert two.one("Service", name) == four.one("Service", name)


@pytest.mark.parametrize("case", CASES)
def test_uninstalling_leaves_caches_that_are_meant_to_stay_and_nothing_else(case: str) -> None:
    for each in rendered(case).objects:
        annotations = each["metadata"].get("annotations", {})
        if KEEP in annotations:
            assert each["kind"] == "PersistentVolumeClaim"
            assert component(each) == "cache"
            assert model_of(each)
        # Helm does not count hooks to a release: the test's pod goes by itself when it has passed.
        if "helm.sh/hook" in annotations:
            assert each["kind"] == "Pod"
            assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]
        assert "finalizers" not in each["metadata"]
