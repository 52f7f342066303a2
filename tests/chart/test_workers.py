"""What the chart makes of a model."""

from __future__ import annotations

import pytest
from sluice_worker.settings import FakeSettings, Settings

from tests.chart.release import (
    HUB,
    Release,
    Values,
    chart,
    component,
    container,
    environment,
    model_of,
    one_model,
    pod_spec,
    render,
    rendered,
)

RECREATE = {"type": "Recreate"}
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_a_model_makes_a_deployment_a_headless_service_and_a_budget() -> None:
    found = sorted(
        (each["kind"], each["metadata"]["name"])
        for each in rendered("default").objects
        if model_of(each) == "demo"
    )
    name = "sluice-worker-demo"
    assert found == [("Deployment", name), ("PodDisruptionBudget", name), ("Service", name)]


def test_models_merge_with_the_default_one_until_it_is_disabled_or_null() -> None:
    other: Values = {"m": {"source": HUB}}
    assert names(render({"models": other})) == {"demo", "m"}
    assert names(render({"models": {**other, "demo": {"enabled": False}}})) == {"m"}
    assert names(render({"models": {**other, "demo": None}})) == {"m"}


def names(release: Release) -> set[str | None]:
    return {model_of(each) for each in release.all("Deployment")} - {None}


def test_the_probes_ask_for_the_process_and_then_for_the_model() -> None:
    worker = container(rendered("default").worker())
    service = "sluice.worker.v1.WorkerService"
    for probe, name in (("startupProbe", ""), ("livenessProbe", ""), ("readinessProbe", service)):
        assert worker[probe]["grpc"] == {"port": 50051, "service": name}
        assert worker[probe]["timeoutSeconds"] == 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ROLLING),
        ({"device": "cuda"}, RECREATE),
        ({"device": "cuda", "replicas": 2}, ROLLING),
        ({"cache": {"type": "pvc"}}, RECREATE),
        ({"cache": {"type": "pvc", "accessModes": ["ReadWriteMany"]}}, ROLLING),
        ({"cache": {"type": "existingClaim", "claimName": "c"}}, RECREATE),
        ({"source": "pvc://c/model"}, RECREATE),
        ({"source": "pvc://c/model", "sourceAccessModes": ["ReadOnlyMany"]}, ROLLING),
        ({"device": "cuda", "autoscaling": {"type": "hpa"}}, ROLLING),
        ({"device": "cuda", "strategy": ROLLING}, ROLLING),
    ],
)
def test_a_lone_worker_that_needs_what_is_there_once_is_recreated(
    options: Values, expected: Values
) -> None:
    assert one_model(**options).worker("m")["spec"]["strategy"] == expected


@pytest.mark.parametrize(
    ("source", "seconds"), [("demo", 600), ("pvc://c/m", 3600), ("/m", 3600), (HUB, 86400)]
)
def test_the_progress_deadline_follows_the_source(source: str, seconds: int) -> None:
    assert one_model(source=source).worker("m")["spec"]["progressDeadlineSeconds"] == seconds
    own = one_model(source=source, progressDeadlineSeconds=77).worker("m")
    assert own["spec"]["progressDeadlineSeconds"] == 77


def test_a_model_overrides_its_device_which_overrides_all() -> None:
    values = {
        "modelDefaults": {"all": {"replicas": 4}, "cuda": {"priorityClassName": "gpu"}},
        "models": {
            "a": {"source": HUB, "device": "cuda"},
            "b": {"source": HUB, "device": "cuda", "priorityClassName": "b", "tolerations": []},
        },
    }
    release = render(values)
    assert release.worker("a")["spec"]["replicas"] == 4
    assert pod_spec(release.worker("a"))["priorityClassName"] == "gpu"
    assert pod_spec(release.worker("b"))["priorityClassName"] == "b"
    assert "tolerations" not in pod_spec(release.worker("b"))
    assert "priorityClassName" not in pod_spec(release.worker("demo"))


def test_false_and_nought_override_too() -> None:
    values = {
        "modelDefaults": {"all": {"settings": {"trustRemoteCode": True}, "preStopSeconds": 9}},
        "models": {
            "demo": {
                "settings": {"trustRemoteCode": False, "drainSeconds": 0, "queueMax": 0},
                "preStopSeconds": 0,
            }
        },
    }
    worker = render(values).worker()
    assert environment(worker)["TRUST_REMOTE_CODE"] == "false"
    assert environment(worker)["QUEUE_MAX"] == "0"
    assert "lifecycle" not in container(worker)


def test_numbers_are_written_without_an_exponent() -> None:
    found = environment(rendered("everything").worker())
    assert found["MAX_MODEL_LEN"] == "1048576"
    assert found["BATCH_DELAY_MS"] == "0.5"


def test_the_chart_knows_every_setting_of_the_worker_with_its_default() -> None:
    by_chart = {"worker_address", "metrics_address", "model_id", "model_revision", "models_dir"}
    by_chart |= {"model_device", "served_model_name", "lora_modules", "fake"}
    by_chart |= {"node_count", "node_rank", "leader_address"}
    fields = {
        name: field.default for name, field in Settings.model_fields.items() if name not in by_chart
    }
    found = environment(rendered("default").worker())
    for name, default in fields.items():
        told = found.pop(name.upper(), None)
        assert told == (None if default in (None, "") else text(default)), name
    assert set(found) == {
        *("WORKER_ADDRESS", "METRICS_ADDRESS", "MODEL_ID", "MODELS_DIR", "MODEL_DEVICE", "HF_HOME")
    }
    assert FakeSettings.model_config["env_prefix"] == "FAKE_"  # for extraEnv


def text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def test_every_worker_setting_of_the_values_is_one_of_the_worker() -> None:
    settings = chart().values["modelDefaults"]["all"]["settings"]
    assert {snake(name) for name in settings} <= set(Settings.model_fields)


def snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)


def test_a_digest_wins_over_a_tag() -> None:
    digest = "sha256:" + "a" * 64
    image = container(one_model(image={"digest": digest, "tag": "x"}).worker("m"))["image"]
    assert image == f"sluice-worker-cpu@{digest}"
    assert container(one_model(image={"tag": "x"}).worker("m"))["image"] == "sluice-worker-cpu:x"


@pytest.mark.parametrize(("version", "action"), [("1.28.0", "exec"), ("1.30.0", "sleep")])
def test_waiting_before_sigterm_needs_no_shell(version: str, action: str) -> None:
    release = render({"kubeVersion": version})
    for each in release.all("Deployment"):
        pre_stop = container(each)["lifecycle"]["preStop"]
        assert set(pre_stop) == {action}
        if action == "exec":
            assert pre_stop["exec"]["command"][0] == "python3"


def test_autoscaled_workers_have_no_count_that_an_upgrade_would_set() -> None:
    release = rendered("everything")
    assert "replicas" not in release.worker()["spec"]
    scaler = release.one("HorizontalPodAutoscaler", "sluice-llm-worker-demo")
    assert scaler["spec"]["scaleTargetRef"]["name"] == release.worker()["metadata"]["name"]
    metrics = {each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"]}
    assert metrics == {"sluice_num_requests_waiting", "sluice_num_requests_running"}


def test_keda_asks_for_the_rows_of_this_model_only() -> None:
    release = rendered("keda")
    triggers = release.one("ScaledObject", "sluice-worker-demo")["spec"]["triggers"]
    queries = {each["metadata"]["query"] for each in triggers}
    pods = 'namespace="llm",pod=~"sluice-worker-demo-[a-z0-9]+-[a-z0-9]+"'
    assert queries == {
        f"sum(sluice_num_requests_waiting{{{pods}}})",
        f"sum(sluice_num_requests_running{{{pods}}})",
    }
    assert all(each["authenticationRef"] == {"name": "prometheus"} for each in triggers)
    (own,) = release.one("ScaledObject", "sluice-worker-own")["spec"]["triggers"]
    assert own["type"] == "cron"


def test_only_gateways_reach_workers_and_only_who_is_named_their_metrics() -> None:
    calls, metrics = rendered("default").one("NetworkPolicy", "sluice-worker")["spec"]["ingress"]
    (source,) = calls["from"]
    assert source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert calls["ports"] == [{"port": 50051, "protocol": "TCP"}]
    assert metrics["from"][0]["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/name": "prometheus"}
    }


def test_nobody_may_scrape_when_nobody_is_named() -> None:
    policy = render({"networkPolicy": {"metricsFrom": []}}).one("NetworkPolicy", "sluice-worker")
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
    assert len(policy["spec"]["ingress"]) == 1


def test_spread_constraints_get_the_pods_own_labels() -> None:
    for each in rendered("everything").all("Deployment"):
        (constraint,) = pod_spec(each)["topologySpreadConstraints"]
        assert constraint["labelSelector"] == each["spec"]["selector"]


def test_a_spread_constraint_with_a_selector_of_its_own_keeps_it() -> None:
    selector = {"matchLabels": {"app.kubernetes.io/component": "worker"}}
    own = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": selector,
    }
    worker = one_model(topologySpreadConstraints=[own]).worker("m")
    assert pod_spec(worker)["topologySpreadConstraints"] == [own]


def test_names_that_look_like_numbers_stay_names() -> None:
    claim = one_model(cache={"type": "pvc", "storageClassName": "1"}).one("PersistentVolumeClaim")
    assert claim["spec"]["storageClassName"] == "1"
    ingress = {"enabled": True, "className": "1", "hosts": ["a.example"], "paths": ["/a: b"]}
    found = render({"ingress": ingress}).one("Ingress")["spec"]
    assert found["ingressClassName"] == "1"
    assert found["rules"][0]["http"]["paths"][0]["path"] == "/a: b"


def test_labels_of_users_never_displace_those_that_select() -> None:
    release = rendered("everything")
    for each in release.all("Deployment"):
        pod = each["spec"]["template"]["metadata"]["labels"]
        assert pod["app.kubernetes.io/name"] == "sluice"
        assert pod["app.kubernetes.io/component"] == component(each)
        assert pod["team"] == "serving"
    assert release.worker()["spec"]["template"]["metadata"]["labels"]["tier"] == "inference"


def test_pods_roll_when_their_settings_change() -> None:
    def checksum(values: Values) -> str:
        meta = render(values).worker()["spec"]["template"]["metadata"]
        found: str = meta["annotations"]["checksum/config"]
        return found

    changed = {"models": {"demo": {"settings": {"batchMax": 8}}}}
    assert checksum({}) == checksum({"gateway": {"replicas": 3}}) != checksum(changed)


def test_what_goes_through_as_it_is_arrives() -> None:
    spec = pod_spec(rendered("everything").worker())
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "high"
    assert spec["serviceAccountName"] == "sluice"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["securityContext"]["supplementalGroups"] == [44]
    assert "podAntiAffinity" in spec["affinity"]


def test_a_platform_may_choose_the_user() -> None:
    nulls = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    for each in render({"podSecurityContext": nulls}).all("Deployment"):
        context = pod_spec(each)["securityContext"]
        assert not set(nulls) & set(context)
        assert context["runAsNonRoot"] is True
