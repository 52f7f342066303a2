"""What holds for every release that a values file in ci/ makes."""

from __future__ import annotations

import os
import re
from typing import Any

import helm_python
import pytest
from sluice_gateway import settings as gateway_settings
from sluice_worker import settings as worker_settings

from tests.chart import schemas
from tests.chart.release import (
    CASES,
    CHART,
    Object,
    Release,
    case_values,
    component,
    environment,
    labels,
    model_of,
    render,
    rendered,
    templates,
)

every_case = pytest.mark.parametrize("case", CASES)

#: What selectors may be made of: all of it fixed for the life of what has it.
SELECTOR_KEYS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "sluice/model",
}
#: Of what is about a whole group: the followers belong to it, a download Job does not.
IN_A_GROUP = {
    "key": "app.kubernetes.io/component",
    "operator": "In",
    "values": ["worker", "follower"],
}
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@every_case
def test_lint_finds_nothing(case: str) -> None:
    report = helm_python.lint(CHART, case_values(case), strict=True)
    info = 1
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > info] == []


@every_case
@pytest.mark.parametrize("version", [schemas.OLDEST, schemas.COMMON, schemas.NEWEST])
def test_kubernetes_accepts_it(case: str, version: str) -> None:
    values = case_values(case)
    release = render({"kubeVersion": f"{version}.0"} | values)
    own = [each for each in release.objects if not schemas.is_packaged(each)]
    assert [error for each in own for error in schemas.errors(each, version)] == []


@every_case
def test_operators_accept_their_kinds(case: str) -> None:
    found = [each for each in rendered(case).objects if schemas.is_packaged(each)]
    assert schemas.custom_errors(found) == []


@every_case
def test_names_and_labels_are_such_as_kubernetes_takes(case: str) -> None:
    seen: set[tuple[str, str]] = set()
    for each in rendered(case).objects:
        name = each["metadata"]["name"]
        assert DNS_LABEL.fullmatch(name), name
        assert (each["kind"], name) not in seen
        seen.add((each["kind"], name))
        for key, value in labels(each).items():
            assert LABEL_VALUE.fullmatch(value), (name, key, value)


@every_case
def test_every_selector_is_immutable_and_selects_what_it_should(case: str) -> None:
    release = rendered(case)
    # Services are what a ServiceMonitor selects; they have the labels of their pods.
    pods = [meta["labels"] for _, meta, _ in release.pods()]
    for each in release.objects:
        selector = selector_of(each)
        if selector is None:
            continue
        keys = set(selector.get("matchLabels", {}))
        assert keys <= SELECTOR_KEYS, each["metadata"]["name"]
        parts = {component(each)}
        if "matchExpressions" in selector:
            assert selector["matchExpressions"] == [IN_A_GROUP]
            parts = {"worker", "follower"}
        chosen = [has for has in pods if selects(selector, has)]
        meant = [
            has
            for has in pods
            if has["app.kubernetes.io/component"] in parts
            and model_of(each) in (None, has.get("sluice/model"))
        ]
        assert chosen == meant != [], each["metadata"]["name"]


def selector_of(each: Object) -> Object | None:
    spec = each.get("spec", {})
    found: Object
    match each["kind"]:
        case "Service":
            found = {"matchLabels": spec["selector"]}
        case "NetworkPolicy":
            found = spec["podSelector"]
        case "Deployment" | "PodDisruptionBudget" | "ServiceMonitor" | "PodMonitor":
            found = spec["selector"]
        case _:
            return None
    return found


def selects(selector: Object, has: dict[str, str]) -> bool:
    """What Kubernetes makes of a selector."""
    assert all(one["operator"] == "In" for one in selector.get("matchExpressions", []))
    return selector.get("matchLabels", {}).items() <= has.items() and all(
        has.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )


@every_case
def test_nothing_that_a_value_says_changes_a_selector(case: str) -> None:
    values = case_values(case)
    changed = {**values, "nameOverride": "other", "commonLabels": {"app.kubernetes.io/name": "x"}}
    before = [each["spec"]["selector"] for each in rendered(case).all("Deployment")]
    after = [each["spec"]["selector"] for each in render(changed).all("Deployment")]
    assert before == after


@every_case
def test_every_pod_is_hardened(case: str) -> None:
    for owner, _, spec in rendered(case).pods():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        pod = spec["securityContext"]
        assert (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"]) == (True, 10001, 0)
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        (only,) = spec["containers"]
        context = only["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        on_gpu = "nvidia.com/gpu" in only["resources"].get("limits", {})
        assert context["readOnlyRootFilesystem"] is not on_gpu, owner["metadata"]["name"]


@every_case
def test_every_mount_has_its_volume_and_every_variable_one_value(case: str) -> None:
    for _, _, spec in rendered(case).pods():
        (only,) = spec["containers"]
        mounts = only.get("volumeMounts", [])
        volumes = [volume["name"] for volume in spec.get("volumes", [])]
        assert {mount["name"] for mount in mounts} == set(volumes)
        assert len(volumes) == len(set(volumes))
        paths = [mount["mountPath"] for mount in mounts]
        assert len(paths) == len(set(paths))
        variables = [variable["name"] for variable in only["env"]]
        assert len(variables) == len(set(variables))


@every_case
def test_no_secret_stands_in_a_manifest(case: str) -> None:
    for _, _, spec in rendered(case).pods():
        (only,) = spec["containers"]
        for variable in only["env"]:
            assert variable["name"] not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
            if re.search("TOKEN|KEY|SECRET", variable["name"]):
                assert variable["value"].startswith("/var/run/secrets/sluice/")
    assert rendered(case).all("Secret") == []


@every_case
def test_the_grace_period_is_above_waiting_and_draining(case: str) -> None:
    for each in rendered(case).workloads():
        drain = float(environment(each)["DRAIN_SECONDS"])
        for template in templates(each):
            grace = template["spec"]["terminationGracePeriodSeconds"]
            assert grace > pre_stop_seconds(template["spec"]) + drain + 5


def pre_stop_seconds(spec: Object) -> int:
    (only,) = spec["containers"]
    action = only.get("lifecycle", {}).get("preStop")
    if action is None:
        return 0
    if "sleep" in action:
        return int(action["sleep"]["seconds"])
    found = re.search(r"sleep\((\d+)\)", action["exec"]["command"][-1])
    assert found
    return int(found[1])


@every_case
def test_the_services_take_the_environment_they_get(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for each in rendered(case).workloads():
        reader: Any = gateway_settings if component(each) == "gateway" else worker_settings
        size = each["spec"].get("leaderWorkerTemplate", {}).get("size", 1)
        for index in range(size):
            given = {
                "$(LWS_GROUP_SIZE)": str(size),
                "$(LWS_WORKER_INDEX)": str(index),
                "$(LWS_LEADER_ADDRESS)": f"{each['metadata']['name']}-0.{each['metadata']['name']}",
            }
            with monkeypatch.context() as patched:
                for name, value in environment(each).items():
                    patched.setenv(name, given.get(value, value))
                reader.read_settings()
                reader.read_trace_settings()


@every_case
def test_the_gateways_ask_every_headless_service(case: str) -> None:
    release = rendered(case)
    addresses = environment(release.gateway())["WORKER_ADDRESSES"].split(",")
    services = [each for each in release.all("Service") if component(each) == "worker"]
    assert {f"dns:///{each['metadata']['name']}:50051" for each in services} <= set(addresses)
    assert len(services) == len(release.workloads()) - 1
    for each in services:
        assert each["spec"]["clusterIP"] == "None"
        assert each["spec"]["publishNotReadyAddresses"] is True


@every_case
def test_the_notes_use_real_names(case: str) -> None:
    release = rendered(case)
    for each in release.workloads():
        assert f"{each['kind'].lower()}/{each['metadata']['name']}\n" in release.notes
    service = next(each for each in release.all("Service") if component(each) == "gateway")
    port = service["spec"]["ports"][0]["port"]
    assert f"port-forward svc/{service['metadata']['name']} 8080:{port}\n" in release.notes


@every_case
def test_rendering_twice_gives_the_same(case: str) -> None:
    assert render(case_values(case)) == rendered(case)


def test_the_cases_make_every_kind() -> None:
    kinds = {each["kind"] for case in CASES for each in rendered(case).objects}
    assert kinds == {
        *("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Pod"),
        *("PersistentVolumeClaim", "Job", "HorizontalPodAutoscaler", "ScaledObject"),
        *("Ingress", "HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule"),
        *("ConfigMap", "LeaderWorkerSet"),
    }


def test_a_release_with_a_long_or_numeric_name_is_still_valid() -> None:
    values = {"models": {"1e3": {"source": "demo"}, "m" * 40: {"source": "demo"}}}
    for name in ("r" * 53, "a123"):
        release = render(values, name=name)
        check(release)
        assert len({each["metadata"]["name"] for each in release.all("Service")}) == 4


def check(release: Release) -> None:
    for each in release.objects:
        assert schemas.errors(each, schemas.NEWEST) == []
        assert DNS_LABEL.fullmatch(each["metadata"]["name"])
        for value in labels(each).values():
            assert LABEL_VALUE.fullmatch(value)
    for each in release.workloads():
        # A pod's name is cut at 63 characters, and must keep its Deployment's and hash.
        assert len(each["metadata"]["name"]) <= 47
