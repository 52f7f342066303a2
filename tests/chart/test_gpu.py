"""What the chart makes of a model on GPUs: of one node, and of several."""

from __future__ import annotations

from typing import Any

import pytest
from sluice_worker.settings import Settings

from tests.chart.release import (
    Object,
    Values,
    component,
    container,
    environment,
    one_model,
    pod_spec,
    render,
    rendered,
    templates,
)

GPU = "nvidia.com/gpu"
#: A group of two pods, whose cache all nodes can mount.
GROUP: Values = {"device": "cuda", "nodes": 2, "settings": {"tpSize": 4}}


def test_a_gpu_model_asks_for_its_gpus_and_shared_memory_on_tainted_nodes() -> None:
    worker = rendered("gpu").worker("llama")
    assert container(worker)["resources"]["limits"] == {GPU: 2}
    assert environment(worker)["TP_SIZE"] == "2"
    assert environment(worker)["MODEL_DEVICE"] == "cuda"
    assert container(worker)["image"].startswith("sluice-worker-cuda:")
    spec = pod_spec(worker)
    assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    shm = next(each for each in spec["volumes"] if each["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert spec["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({"settings": {"tpSize": 4, "ppSize": 2}}, {GPU: 8}),
        ({"settings": {"tpSize": 4, "ppSize": 2}, "nodes": 2}, {GPU: 4}),
        ({"resources": {"limits": {GPU: 3, "memory": "64Gi"}}}, {GPU: 3, "memory": "64Gi"}),
        ({"resources": {"requests": {GPU: 3}}}, {GPU: 3}),
        ({"gpuResource": "nvidia.com/mig-3g.40gb"}, {"nvidia.com/mig-3g.40gb": 1}),
    ],
)
def test_a_pod_asks_for_its_share_of_the_gpus(options: Values, limits: Object) -> None:
    worker = one_model(device="cuda", **options).worker("m")
    for template in templates(worker):
        assert template["spec"]["containers"][0]["resources"]["limits"] == limits


def test_what_vllm_is_told_arrives() -> None:
    settings = {
        "ppSize": 2,
        "gpuMemoryUtilization": 0.5,
        "quantization": "fp8",
        "enablePrefixCaching": False,
        "vllmArgs": "--max-num-batched-tokens 8192 --enforce-eager",
    }
    found = environment(one_model(device="cuda", settings=settings).worker("m"))
    assert found["PP_SIZE"] == "2"
    assert found["GPU_MEMORY_UTILIZATION"] == "0.5"
    assert found["QUANTIZATION"] == "fp8"
    assert found["ENABLE_PREFIX_CACHING"] == "false"
    assert found["VLLM_ARGS"] == "--max-num-batched-tokens 8192 --enforce-eager"
    assert "NODE_COUNT" not in found


def test_a_gpu_gets_the_batch_that_the_worker_would_take_for_it() -> None:
    found = environment(one_model(device="cuda").worker("m"))
    assert found["BATCH_MAX"] == str(Settings(model_device="cuda").batch_max)


def test_adapters_are_told_and_those_on_claims_are_mounted() -> None:
    adapters = {
        "sql": "org/sql-lora",
        "one": "pvc://adapters/one",
        "two": "pvc://adapters/two",
        "here": "/adapters/here",
    }
    worker = one_model(device="cuda", source="pvc://base/m", loraModules=adapters).worker("m")
    told = dict(each.split("=") for each in environment(worker)["LORA_MODULES"].split(","))
    assert told == adapters
    mounts = {each["name"]: each["mountPath"] for each in container(worker)["volumeMounts"]}
    assert mounts["source"] == "/models/base"
    assert mounts["source-1"] == "/models/adapters"
    volumes = {each["name"]: each for each in pod_spec(worker)["volumes"]}
    claim = {"claimName": "adapters", "readOnly": True}
    assert volumes["source-1"]["persistentVolumeClaim"] == claim
    assert "source-2" not in volumes


def test_an_adapter_on_a_claim_of_one_node_counts_as_such() -> None:
    adapters = {"one": "pvc://adapters/one"}
    release = one_model(device="cuda", loraModules=adapters, replicas=2)
    assert "models.m: several workers share a claim" in release.notes


def test_several_nodes_make_a_group_and_no_deployment() -> None:
    release = one_model(**GROUP)
    group = release.one("LeaderWorkerSet")
    assert [component(each) for each in release.all("Deployment")] == ["gateway"]
    spec = group["spec"]
    assert spec["replicas"] == 1
    assert spec["leaderWorkerTemplate"]["size"] == 2
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    # A group more would need GPUs that may not be there.
    rolling = spec["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert rolling == {"maxUnavailable": 1, "maxSurge": 0}


def test_gateways_find_leaders_only_at_the_address_of_a_lone_worker() -> None:
    release = one_model(**GROUP)
    service = release.one("Service", "sluice-worker-m")["spec"]
    leader, follower = (each["metadata"]["labels"] for each in templates(release.worker("m")))
    assert service["selector"].items() <= leader.items()
    assert not service["selector"].items() <= follower.items()
    alone = one_model(device="cuda").one("Service", "sluice-worker-m")["spec"]
    assert service == alone
    # The controller makes a Service of the group's own name, for the pods to find each other.
    names = {each["metadata"]["name"] for each in release.all("Service")}
    assert release.worker("m")["metadata"]["name"] not in names


def test_a_follower_is_asked_for_its_process_and_outlives_its_leaders_drain() -> None:
    probes: dict[str, Object] = {}
    leader, follower = (each["spec"] for each in templates(one_model(**GROUP).worker("m")))
    for name, spec in (("leader", leader), ("follower", follower)):
        (only,) = spec["containers"]
        probes[name] = {
            kind: only[f"{kind}Probe"]["grpc"]["service"]
            for kind in ("startup", "liveness", "readiness")
        }
    model = "sluice.worker.v1.WorkerService"
    assert probes["leader"] == {"startup": "", "liveness": "", "readiness": model}
    assert probes["follower"] == {"startup": "", "liveness": "", "readiness": ""}
    waits = follower["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits >= 5 + 30


def test_the_pods_of_a_group_are_told_who_they_are_by_its_controller() -> None:
    for template in templates(one_model(**GROUP).worker("m")):
        env = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
        assert env["NODE_COUNT"] == "$(LWS_GROUP_SIZE)"
        assert env["NODE_RANK"] == "$(LWS_WORKER_INDEX)"
        assert env["LEADER_ADDRESS"] == "$(LWS_LEADER_ADDRESS)"


def test_the_pods_of_a_group_reach_each_other_and_nobody_else_reaches_followers() -> None:
    release = one_model(**GROUP)
    policies = release.all("NetworkPolicy")
    own = release.one("NetworkPolicy", "sluice-nodes2-m")["spec"]
    assert own["ingress"] == [{"from": [{"podSelector": own["podSelector"]}]}]
    for policy in policies:
        parts = policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        assert parts != "follower"
    assert "ports" not in own["ingress"][0]


def test_a_budget_counts_all_pods_of_a_group() -> None:
    selector = one_model(**GROUP).one("PodDisruptionBudget", "sluice-worker-m")["spec"]["selector"]
    (one,) = selector["matchExpressions"]
    assert one["values"] == ["worker", "follower"]


def test_groups_are_scaled_as_wholes() -> None:
    release = rendered("multi-node")
    target = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
    for kind, model in (("ScaledObject", "scaled"), ("HorizontalPodAutoscaler", "by-hpa")):
        name = release.worker(model)["metadata"]["name"]
        scaler = release.one(kind, f"sluice-worker-{model}")["spec"]
        assert scaler["scaleTargetRef"] == {**target, "name": name}
        assert "replicas" not in release.worker(model)["spec"]
    triggers = release.one("ScaledObject")["spec"]["triggers"]
    # The leaders alone have numbers.
    assert all(
        'pod=~"sluice-nodes4-scaled-[0-9]+"' in each["metadata"]["query"] for each in triggers
    )


def cuda(**options: Any) -> Values:
    return {"models": {"m": {"source": "org/m", "device": "cuda", **options}}}


def test_shared_memory_may_be_brought_by_the_user() -> None:
    shm: Values = {
        "shm": {"size": ""},
        "extraVolumes": [{"name": "mine", "emptyDir": {"medium": "Memory"}}],
        "extraVolumeMounts": [{"name": "mine", "mountPath": "/dev/shm"}],
    }
    worker = render(cuda(settings={"tpSize": 2}, **shm)).worker("m")
    mounts = [each["mountPath"] for each in container(worker)["volumeMounts"]]
    assert mounts.count("/dev/shm") == 1
