"""Prometheus and Grafana of docker/compose.yaml find what they are to show."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import yaml

from tests.dashboards.boards import FILES

DOCKER = Path(__file__).parents[2] / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())


def mounts(service: str) -> dict[str, Path]:
    """What a service has of this repository, by its path there."""
    found = {}
    for entry in SERVICES[service].get("volumes", ()):
        source, target, *mode = entry.split(":")
        if source.startswith("."):
            assert mode == ["ro"], entry
            found[target] = (DOCKER / source).resolve()
    return found


def scraped() -> set[tuple[str, int]]:
    """The services and ports that Prometheus asks."""
    found = set()
    for job in PROMETHEUS["scrape_configs"]:
        for config in job.get("static_configs", ()):
            for target in config["targets"]:
                host, port = target.split(":")
                found.add((host, int(port)))
        for config in job.get("dns_sd_configs", ()):
            found |= {(name, config["port"]) for name in config["names"]}
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_everything_that_is_mounted_exists(service: str) -> None:
    for path in mounts(service).values():
        assert path.exists(), path


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_their_images_are_pinned_and_they_have_no_more_rights_than_ours(service: str) -> None:
    told = SERVICES[service]
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", told["image"])
    for right in ("read_only", "cap_drop", "security_opt"):
        assert told[right] == SERVICES["gateway"][right]


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_they_are_reached_from_this_machine_only(service: str) -> None:
    for port in SERVICES[service]["ports"]:
        assert port.startswith("127.0.0.1:"), port


def test_whoever_looks_can_change_nothing_and_nobody_can_log_in() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_prometheus_scrapes_both_services_where_they_serve_metrics() -> None:
    assert scraped() == {("gateway", 8080), ("worker", 9464)}
    for service, port in scraped():
        dockerfile = (DOCKER.parent / SERVICES[service]["build"]["dockerfile"]).read_text()
        exposed = re.findall(r"^EXPOSE (.*)$", dockerfile, re.MULTILINE)
        assert str(port) in exposed[-1].split()
        assert f"_ADDRESS=0.0.0.0:{port}" in dockerfile


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_its_configuration() -> None:
    command = ["promtool", "check", "config", str(DOCKER / "prometheus.yaml")]
    subprocess.run(command, check=True)


def test_grafana_asks_that_prometheus_as_often_as_it_scrapes() -> None:
    (folder,) = (path for path in mounts("grafana").values() if path.name == "datasources")
    (source,) = yaml.safe_load((folder / "prometheus.yaml").read_text())["datasources"]
    url = urlparse(source["url"])
    assert url.hostname in SERVICES
    assert url.hostname == "prometheus"
    assert f":{url.port}:" in f":{SERVICES['prometheus']['ports'][0]}:"
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_grafana_shows_the_charts_dashboards() -> None:
    there = mounts("grafana")
    (folder,) = (path for path in there.values() if path.match("provisioning/dashboards"))
    (provider,) = yaml.safe_load((folder / "sluice.yaml").read_text())["providers"]
    assert sorted(there[provider["options"]["path"]].glob("*.json")) == FILES
