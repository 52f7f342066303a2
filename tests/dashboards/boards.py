"""The dashboards in the chart, as what a test asks of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not from tests.chart: that needs Helm, which the suite of vLLM has not.
CHART = Path(__file__).parents[2] / "deploy/helm/sluice"

Json = dict[str, Any]

FILES: list[Path] = sorted((CHART / "dashboards").glob("*.json"))
DASHBOARDS: dict[str, Json] = {path.stem: json.loads(path.read_text()) for path in FILES}

#: What Prometheus' client adds to the name of a counter or histogram.
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    dashboard: str
    panel: str
    ref: str
    expr: str
    legend: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel} {self.ref}"

    def with_variables(self, rate_interval: str = "5s", **variables: str) -> str:
        """The expression as Grafana sends it."""
        expr = self.expr.replace("$__rate_interval", rate_interval)
        for name, value in variables.items():
            expr = expr.replace(f"${name}", value)
        assert "$" not in expr, expr
        return expr

    @property
    def series(self) -> set[str]:
        """The series that it names."""
        return set(re.findall(r"\bsluice_\w+", self.expr))

    @property
    def metrics(self) -> set[str]:
        """The metrics that it names, as they are declared."""
        return {SUFFIX.sub("", name) for name in self.series}

    @property
    def legend_labels(self) -> set[str]:
        return set(re.findall(r"{{(\w+)}}", self.legend))


def panels(dashboard: Json) -> list[Json]:
    """What shows data: all but the rows' titles, and what is inside of a collapsed row."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def collapsed(dashboard: Json) -> list[Json]:
    """What is inside of collapsed rows: it needs GPUs."""
    rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
    return [panel for row in rows for panel in row["panels"]]


def _queries(shown: Callable[[Json], list[Json]]) -> list[Query]:
    return [
        Query(
            name,
            panel["title"],
            target["refId"],
            target["expr"],
            target["legendFormat"],
            target["instant"],
        )
        for name, dashboard in DASHBOARDS.items()
        for panel in shown(dashboard)
        for target in panel["targets"]
    ]


QUERIES = _queries(panels)

#: Of the row for GPUs: NVIDIA's exporter and vLLM itself are what answers them.
GPU_QUERIES = _queries(collapsed)
