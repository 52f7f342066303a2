"""What the chart makes of the gateway, and of what is around it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import helm_python
import pytest
import yaml
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.settings import Settings
from sluice_worker.metrics import WorkerMetrics

from tests.chart.release import (
    CHART,
    chart,
    container,
    environment,
    parse,
    pod_spec,
    render,
    rendered,
)
from tests.chart.test_workers import snake, text

ALERTS = yaml.safe_load((CHART / "alerts" / "sluice.yaml").read_text())["groups"]


def test_two_gateways_are_ready_whether_or_not_a_model_is() -> None:
    gateway = rendered("default").gateway()
    assert gateway["spec"]["replicas"] == 2
    assert gateway["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    only = container(gateway)
    paths = {"startupProbe": "live", "livenessProbe": "live", "readinessProbe": "ready"}
    for probe, path in paths.items():
        assert only[probe]["httpGet"] == {"path": f"/health/{path}", "port": "http"}
        assert only[probe]["timeoutSeconds"] == 5


def test_the_chart_knows_every_setting_of_the_gateway_with_its_default() -> None:
    found = environment(rendered("default").gateway())
    by_chart = {"gateway_address", "worker_addresses", "api_keys_file"}
    for name, field in Settings.model_fields.items():
        told = found.pop(name.upper(), None)
        if name == "max_body_bytes":
            assert told == "8MiB"
            assert field.default == 8 << 20
        elif name not in by_chart:
            assert told == (None if field.default is None else text(field.default)), name
    assert found == {}
    settings = chart().values["gateway"]["settings"]
    assert {snake(name) for name in settings} <= set(Settings.model_fields)


def test_api_keys_are_a_directory_so_that_they_change_without_a_restart() -> None:
    gateway = rendered("private-model").gateway()
    assert environment(gateway)["API_KEYS_FILE"] == "/var/run/secrets/sluice/api-keys/keys"
    (mount,) = (each for each in container(gateway)["volumeMounts"] if each["name"] == "api-keys")
    assert mount["mountPath"] == "/var/run/secrets/sluice/api-keys"
    assert "subPath" not in mount
    (volume,) = (each for each in pod_spec(gateway)["volumes"] if each["name"] == "api-keys")
    assert volume["secret"]["items"] == [{"key": "keys.txt", "path": "keys"}]


def test_the_gateway_listens_where_its_service_points() -> None:
    release = rendered("everything")
    assert environment(release.gateway())["GATEWAY_ADDRESS"] == "[::]:8080"
    spec = release.one("Service", "sluice-llm-gateway")["spec"]
    assert spec["type"] == "NodePort"
    assert spec["ports"] == [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}]
    assert container(release.gateway())["ports"] == [{"name": "http", "containerPort": 8080}]


def test_an_ingress_shows_the_api_and_not_the_metrics() -> None:
    ingress = rendered("everything").one("Ingress")["spec"]
    assert [rule["host"] for rule in ingress["rules"]] == ["llm.example.com", "llm.example.org"]
    for rule in ingress["rules"]:
        assert [path["path"] for path in rule["http"]["paths"]] == ["/v1"]


def test_a_route_belongs_to_its_gateway() -> None:
    release = rendered("everything")
    route = release.one("HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    (rule,) = route["rules"]
    assert rule["backendRefs"] == [{"name": "sluice-llm-gateway", "port": 80}]
    assert rule["timeouts"] == {"request": "0s"}


def test_a_closed_gateway_still_lets_helms_test_in() -> None:
    assert "from" not in rendered("default").one("NetworkPolicy", "sluice-gateway")["spec"]
    policy = rendered("everything").one("NetworkPolicy", "sluice-llm-gateway")
    (rule,) = policy["spec"]["ingress"]
    test = {"app.kubernetes.io/component": "test", "app.kubernetes.io/instance": "sluice"}
    allowed = [each.get("podSelector", {}).get("matchLabels", {}) for each in rule["from"]]
    assert any(test.items() <= each.items() for each in allowed)


def test_monitors_scrape_the_ports_that_there_are() -> None:
    release = rendered("everything")
    service = release.one("ServiceMonitor")
    assert service["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    (endpoint,) = service["spec"]["endpoints"]
    ports = [each["name"] for each in release.one("Service", "sluice-llm-gateway")["spec"]["ports"]]
    assert endpoint["port"] in ports
    (endpoint,) = release.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [each["name"] for each in container(release.worker())["ports"]]


def test_alerts_can_be_left_out_and_labelled() -> None:
    (group,) = rendered("everything").one("PrometheusRule")["spec"]["groups"]
    found = {rule["alert"] for rule in group["rules"]}
    assert found == {rule["alert"] for rule in ALERTS[0]["rules"]} - {"SluiceSlowFirstToken"}
    assert all(rule["labels"]["team"] == "serving" for rule in group["rules"])
    assert all(rule["labels"]["severity"] for rule in group["rules"])
    assert "{{ $labels.pod }}" in group["rules"][0]["annotations"]["summary"]


def test_alerts_use_metrics_that_are_exported() -> None:
    exported = set()
    for metrics in (GatewayMetrics(), WorkerMetrics("m")):
        for family in metrics.registry.collect():
            exported |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    exported.add("sluice_workers")  # counted when there is a router to count
    used = {
        name
        for group in ALERTS
        for rule in group["rules"]
        for name in re.findall(r"\bsluice_\w+", rule["expr"])
    }
    assert used <= exported


def test_every_alert_has_a_test_in_which_it_is_silent_fires_and_clears() -> None:
    cases = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())["tests"]
    fired = []
    for case in cases:
        told = [
            {
                re.search('alertname="([^"]+)"', sample["labels"])[1]  # type: ignore[index]
                for sample in question["exp_samples"]
            }
            for question in case["promql_expr_test"]
        ]
        if named := set().union(*told):
            assert told[0] == told[-1] == set(), case["name"]
            fired += named
    assert sorted(fired) == sorted(rule["alert"] for group in ALERTS for rule in group["rules"])


def test_alerts_of_a_release_are_those_of_the_file_unless_values_say_otherwise() -> None:
    enabled = {"monitoring": {"prometheusRule": {"enabled": True}}}
    assert render(enabled).one("PrometheusRule")["spec"]["groups"] == ALERTS


def test_thresholds_are_values(tmp_path: Path) -> None:
    changed = {
        "SluiceErrors": 0.2,
        "SluiceOverloaded": 1.5,
        "SluiceQueue": 100,
        "SluiceQueueGrowing": 20,
        "SluiceKvCacheFull": 0.5,
        "SluiceSlowFirstToken": 1,
        "SluiceFailovers": 0,
    }
    rule = {"enabled": True, "thresholds": changed, "runbookUrl": "https://wiki.example/sluice"}
    spec = render({"monitoring": {"prometheusRule": rule}}).one("PrometheusRule")["spec"]
    found = {each["alert"]: each for each in spec["groups"][0]["rules"]}
    for before in ALERTS[0]["rules"]:
        name, after = before["alert"], found[before["alert"]]
        expr = before["expr"]
        if name in changed:
            expr, _, _ = expr.rpartition(" > ")
            expr = f"{expr} > {changed[name]}"
        assert after["expr"] == expr
        anchor = f"#{name.lower()}"
        assert before["annotations"]["runbook_url"] == f"docs/operations.md{anchor}"
        assert after["annotations"]["runbook_url"] == f"https://wiki.example/sluice{anchor}"
    if shutil.which("promtool"):
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
        subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")], check=True)


def test_every_alert_has_its_paragraph_in_the_operations_page() -> None:
    page = (CHART.parents[2] / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (Sluice\w+)\n\n(?=\S)", page, re.MULTILINE)
    assert headings == [rule["alert"] for rule in ALERTS[0]["rules"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_alerts_fire_when_they_should_and_only_then() -> None:
    tests = Path(__file__).parent / "alerts_test.yaml"
    subprocess.run(["promtool", "test", "rules", str(tests)], check=True)


def test_dashboards_are_config_maps_one_each() -> None:
    files = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    configs = rendered("everything").all("ConfigMap")
    assert rendered("default").all("ConfigMap") == []
    found = {}
    for config in configs:
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config["metadata"]["annotations"] == {"grafana_folder": "Sluice"}
        found |= config["data"]
    assert {name: json.loads(text) for name, text in found.items()} == {
        name: json.loads(text) for name, text in files.items()
    }
    assert len(configs) == len(files) >= 2


def test_a_dashboards_own_templates_are_left_alone(tmp_path: Path) -> None:
    copy = tmp_path / "sluice"
    shutil.copytree(CHART, copy)
    (copy / "dashboards" / "other.json").write_text('{"title": "{{ model_name }}"}\n')
    values = {"monitoring": {"dashboards": {"enabled": True, "namespace": "monitoring"}}}
    with helm_python.Chart.load(copy) as other:
        release = parse(other.render(values, name="sluice", namespace="llm"))
    config = next(each for each in release.all("ConfigMap") if "other.json" in each["data"])
    assert config["data"] == {"other.json": '{"title": "{{ model_name }}"}'}
    assert config["metadata"]["namespace"] == "monitoring"


def test_gateways_scale_by_cpu() -> None:
    release = rendered("everything")
    assert "replicas" not in release.gateway()["spec"]
    scaler = release.one("HorizontalPodAutoscaler", "sluice-llm-gateway")["spec"]
    assert scaler["scaleTargetRef"]["name"] == release.gateway()["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 8)


@pytest.mark.parametrize("case", ["default", "private-model"])
def test_the_notes_tell_what_to_type(case: str) -> None:
    notes = rendered(case).notes
    assert "helm -n llm test sluice\n" in notes
    assert ("authorization: Bearer" in notes) is (case == "private-model")
    assert ("Everybody" in notes) is (case == "default")
    assert '-d \'{"messages":[{"role":"user","content":"Say hello"}],"stream":true}\'' in notes


def test_the_notes_warn_of_a_claim_that_several_workers_cannot_share() -> None:
    values = {"models": {"m": {"source": "org/m", "replicas": 2, "cache": {"type": "pvc"}}}}
    assert "models.m: several workers share a claim" in render(values).notes
    assert "share a claim" not in rendered("multi-model").notes


def test_the_notes_of_a_release_without_models_say_whom_it_asks() -> None:
    none = {
        "models": {"demo": {"enabled": False}},
        "gateway": {"extraWorkerAddresses": ["host:50051"]},
    }
    notes = render(none).notes
    assert "0 models" not in notes
    assert "No model of its own" in notes
    assert "gateway.extraWorkerAddresses" in notes


def test_the_notes_name_adapters_and_groups() -> None:
    notes = rendered("multi-node").notes
    assert "    with the adapter sql: org/sql-lora\n" in notes
    assert "leaderworkerset/sluice-nodes2-large\n" in notes
