"""The chart as a whole: its README, its package, and what `helm test` runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import helm_python
import pytest
import yaml

from tests.chart.release import CASES, CHART, render, rendered
from tests.processes import gateway, worker

ROOT = CHART.parents[2]


def test_the_readme_is_made_from_the_values() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "chart_readme.py"), "--check"]
    subprocess.run(command, check=True)


def test_every_value_that_the_documents_name_exists() -> None:
    values = helm_python.values_from_yaml((CHART / "values.yaml").read_text())
    document = (ROOT / "docs" / "operations.md").read_text()
    roots = "|".join(values)
    named = set(re.findall(rf"`((?:{roots})(?:\.[A-Za-z]\w*)+)`", document))
    assert named
    for path in named:
        node = values
        for part in path.split("."):
            assert part in node, path
            node = node[part]


def test_every_values_example_in_the_documents_is_valid() -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    examples = re.findall(r"```yaml\n# values\.yaml\n(.*?)```", document, re.DOTALL)
    assert len(examples) >= 3
    with helm_python.Chart.load(CHART) as chart:
        for example in examples:
            values = helm_python.values_from_yaml(example)
            chart.validate_schema(values)
            chart.render(values, name="sluice", namespace="llm")


def test_the_projects_readme_shows_what_an_installation_prints() -> None:
    notes = render(namespace="default").notes.strip()
    assert f"```console\n{notes}\n```" in (ROOT / "README.md").read_text()


def test_it_can_be_packaged_without_its_test_values(tmp_path: Path) -> None:
    archive = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(archive) as packaged:
        assert packaged.metadata["name"] == "sluice"
        files = packaged.render({}, name="sluice", namespace="llm")
        assert any(path.endswith("worker-deployment.yaml") for path in files)
    with tarfile.open(archive) as content:
        names = content.getnames()
    assert "sluice/alerts/sluice.yaml" in names
    assert "sluice/files/smoke_test.py" in names
    assert not [name for name in names if name.startswith("sluice/ci")]


def test_version_and_images_are_those_of_the_services() -> None:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for service in ("gateway", "worker"):
        project = (ROOT / "services" / service / "pyproject.toml").read_text()
        assert f'version = "{metadata["appVersion"]}"' in project


def test_it_is_for_kubernetes_1_28_and_newer() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == ">=1.28.0-0"
    assert "default" in CASES


def test_helms_test_is_not_asked_for_the_logs_of_a_pod_that_is_gone() -> None:
    policy = rendered("default").one("Pod")["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert policy == "before-hook-creation,hook-succeeded"
    assert "--logs" not in rendered("default").notes


def test_compose_gives_no_more_rights_than_the_chart() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for name in ("gateway", "worker"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]


def smoke_test(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the container of `helm test` here."""
    (only,) = rendered("default").one("Pod")["spec"]["containers"]
    assert only["command"][:2] == ["python3", "-c"]
    command = [sys.executable, *only["command"][1:]]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_helms_test_generates_a_token_through_a_real_gateway(
    fake_model_dir: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# first\nsecret-key\n")
    with (
        worker(fake_model_dir, ENGINE="fake") as first,
        gateway(first.address, API_KEYS_FILE=str(keys)) as front,
    ):
        told = {"GATEWAY_URL": front.url, "WAIT_SECONDS": "30"}
        ended = smoke_test(**told, API_KEYS_FILE=str(keys))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "fake-model is ready" in ended.stdout
        assert '"completion_tokens": 1' in ended.stdout
        refused = smoke_test(GATEWAY_URL=front.url, WAIT_SECONDS="0.5")
        assert refused.returncode == 1
        assert "401" in refused.stdout


@pytest.mark.parametrize("path", ["http://127.0.0.1:1"])
def test_helms_test_fails_when_there_is_no_gateway(path: str) -> None:
    ended = smoke_test(GATEWAY_URL=path, WAIT_SECONDS="0.5")
    assert ended.returncode == 1
    assert "no model was ready" in ended.stdout
