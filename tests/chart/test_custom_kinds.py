"""The schemas of the kinds that operators bring refuse what their clusters would refuse or drop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart import schemas
from tests.chart.release import Object, rendered

Change = Callable[[Any], Any]


def one(kind: str) -> Object:
    case = {"ScaledObject": "keda", "LeaderWorkerSet": "multi-node"}.get(kind, "everything")
    return copy.deepcopy(rendered(case).all(kind)[0])


def errors(each: Object) -> list[str]:
    if schemas.is_packaged(each):
        return schemas.custom_errors([each])
    return schemas.errors(each, schemas.NEWEST)


@pytest.mark.parametrize(
    ("kind", "change", "word"),
    [
        ("ScaledObject", lambda spec: spec.update(polingInterval=3), "polingInterval"),
        ("ScaledObject", lambda spec: spec["triggers"][0].pop("type"), "type"),
        ("ScaledObject", lambda spec: spec["triggers"][0].update(metadta={}), "metadta"),
        ("PodMonitor", lambda spec: spec["podMetricsEndpoints"][0].update(prt="x"), "prt"),
        ("PodMonitor", lambda spec: spec["podMetricsEndpoints"][0].update(port=1), "port"),
        ("ServiceMonitor", lambda spec: spec["endpoints"][0].update(interval="often"), "interval"),
        ("ServiceMonitor", lambda spec: spec["selector"].update(matchLabel={}), "matchLabel"),
        ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].update(exp="1"), "exp"),
        ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].pop("expr"), "expr"),
        ("HTTPRoute", lambda spec: spec["rules"][0].update(mathces=[]), "mathces"),
        ("HTTPRoute", lambda spec: spec["rules"][0]["timeouts"].update(request="1"), "request"),
        ("LeaderWorkerSet", lambda spec: spec.update(replica=3), "replica"),
        (
            "LeaderWorkerSet",
            lambda spec: spec["leaderWorkerTemplate"]["workerTemplate"]["spec"].update(volume=[]),
            "volume",
        ),
    ],
)
def test_a_misspelt_or_wrong_field_is_refused(kind: str, change: Change, word: str) -> None:
    each = one(kind)
    assert errors(each) == []
    change(each["spec"])
    (found,) = errors(each)
    assert word in found


def test_a_kind_without_a_schema_is_an_error_and_not_passed_over() -> None:
    unknown = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {"name": "x"}}
    (found,) = schemas.custom_errors([unknown])
    assert "no schema" in found
