"""The chart, rendered by Helm, as the objects that a cluster would get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "sluice"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())

HUB = "org/model"

Object = dict[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """What one installation makes."""

    objects: tuple[Object, ...]
    notes: str

    def all(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Object:
        found = [each for each in self.all(kind) if name in (None, each["metadata"]["name"])]
        names = [each["metadata"]["name"] for each in self.all(kind)]
        assert len(found) == 1, f"{kind} {name}: {names}"
        return found[0]

    def worker(self, model: str = "demo") -> Object:
        """What makes a model's workers: a Deployment, or a LeaderWorkerSet for several nodes."""
        found = [each for each in self.workloads() if model_of(each) == model]
        assert len(found) == 1, model
        return found[0]

    def workloads(self) -> list[Object]:
        """Everything that makes gateways and workers."""
        return self.all("Deployment") + self.all("LeaderWorkerSet")

    def gateway(self) -> Object:
        found = [each for each in self.all("Deployment") if component(each) == "gateway"]
        assert len(found) == 1
        return found[0]

    def pods(self) -> Iterator[tuple[Object, Object, Object]]:
        """Everything that makes pods, with the pods' metadata and spec."""
        for each in self.objects:
            if each["kind"] == "Pod":
                yield each, each["metadata"], each["spec"]
            for template in templates(each):
                yield each, template["metadata"], template["spec"]


@cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def render(values: Values | None = None, name: str = "sluice", namespace: str = "llm") -> Release:
    """The release of these values. Raises helm_python.HelmError."""
    return parse(chart().render(values or {}, name=name, namespace=namespace))


def parse(files: dict[str, str]) -> Release:
    objects: list[Object] = []
    notes = ""
    for path, text in sorted(files.items()):
        if path.endswith("NOTES.txt"):
            notes = text
        else:
            objects += [each for each in yaml.safe_load_all(text) if each]
    return Release(tuple(objects), notes)


def case_values(case: str) -> Values:
    text = (CHART / "ci" / f"{case}-values.yaml").read_text()
    values: Values = helm_python.values_from_yaml(text)
    return values


@cache
def rendered(case: str) -> Release:
    """The release of a values file in ci/."""
    return render(case_values(case))


def labels(each: Object) -> dict[str, str]:
    found: dict[str, str] = each["metadata"]["labels"]
    return found


def component(each: Object) -> str:
    return labels(each)["app.kubernetes.io/component"]


def model_of(each: Object) -> str | None:
    return labels(each).get("sluice/model")


def templates(each: Object) -> list[Object]:
    """The templates of an object's pods; of a group, the leader's first."""
    match each["kind"]:
        case "Deployment" | "Job":
            return [each["spec"]["template"]]
        case "LeaderWorkerSet":
            group = each["spec"]["leaderWorkerTemplate"]
            return [group["leaderTemplate"], group["workerTemplate"]]
        case _:
            return []


def pod_spec(each: Object) -> Object:
    """The pods of an object; of a group, the leader."""
    spec: Object = templates(each)[0]["spec"]
    return spec


def container(each: Object) -> Object:
    (only,) = pod_spec(each)["containers"]
    assert isinstance(only, dict)
    return only


def environment(each: Object) -> dict[str, str]:
    """Variables but for those that the cluster fills in."""
    given = [variable for variable in container(each)["env"] if "value" in variable]
    return {variable["name"]: variable["value"] for variable in given}


def one_model(**options: Any) -> Release:
    """A release with the hub model ``m`` alone."""
    return render({"models": {"demo": {"enabled": False}, "m": {"source": HUB, **options}}})
