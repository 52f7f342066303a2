"""The dashboards as files: whole, tidy and explained."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from sluice_gateway.settings import Settings as GatewaySettings
from sluice_worker.settings import Settings as WorkerSettings

from tests.chart.release import CHART, render
from tests.dashboards.boards import DASHBOARDS, FILES, QUERIES, Json, Query, collapsed, panels

COLUMNS = 24

every_dashboard = pytest.mark.parametrize("name", DASHBOARDS)
every_query = pytest.mark.parametrize("query", QUERIES, ids=str)


def test_there_are_two_whose_addresses_never_change() -> None:
    uids = {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()}
    assert uids == {"overview": "sluice-overview", "worker": "sluice-worker"}


@every_dashboard
def test_it_is_printed_in_one_way_so_that_changes_are_small(name: str) -> None:
    text = next(path for path in FILES if path.stem == name).read_text()
    assert text == json.dumps(DASHBOARDS[name], indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@every_dashboard
def test_it_asks_for_the_data_source_the_namespace_and_the_model(name: str) -> None:
    variables = {each["name"]: each for each in DASHBOARDS[name]["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "model_name"]
    for each in (variables["namespace"], variables["model_name"]):
        assert (each["includeAll"], each["allValue"]) == (True, ".*")  # a missing label matches
        assert each["current"]["value"] == ["$__all"]
        assert each["datasource"]["uid"] == "${datasource}"


@every_dashboard
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    all_panels = DASHBOARDS[name]["panels"]
    ids = [panel["id"] for panel in all_panels]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in all_panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS, panel["title"]
        cells = itertools.product(
            range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        )
        for cell in cells:
            assert cell not in taken, f"{panel['title']} is over {taken.get(cell)}"
            taken[cell] = panel["title"]
    # No holes: below each cell but the first line's there is one.
    depth = max(y for _, y in taken) + 1
    assert len(taken) == depth * COLUMNS


@every_dashboard
def test_every_panel_says_what_it_shows_and_what_to_do(name: str) -> None:
    shown = panels(DASHBOARDS[name]) + collapsed(DASHBOARDS[name])
    titles = [panel["title"] for panel in shown]
    for panel in shown:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"]) > 60, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == sorted(set(refs)), panel["title"]
    rows = {panel["title"] for panel in DASHBOARDS[name]["panels"] if panel["type"] == "row"}
    assert not rows & set(titles)


@every_dashboard
def test_every_setting_and_alert_that_a_description_names_exists(name: str) -> None:
    fields = {**GatewaySettings.model_fields, **WorkerSettings.model_fields}
    settings = {field.upper() for field in fields}
    groups = yaml.safe_load((CHART / "alerts" / "sluice.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    titles = {panel["title"] for panel in DASHBOARDS[name]["panels"]}
    for panel in panels(DASHBOARDS[name]):
        text = panel["description"]
        assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text)) <= settings, panel["title"]
        assert set(re.findall(r"\bSluice[A-Z]\w+", text)) <= alerts, panel["title"]
        for named in re.findall(
            r"\b[Ss]ee (?:the )?([A-Z][a-z]+(?: [a-z]+)+?)(?=[,.:]| and )", text
        ):
            assert named in titles, f"{panel['title']}: {named}"


@every_query
def test_what_only_grows_is_shown_as_a_rate(query: Query) -> None:
    for match in re.finditer(r"\bsluice_\w+_(?:total|bucket|sum|count)\b", query.expr):
        assert query.expr[: match.start()].endswith("rate("), query.expr
    rates = query.expr.count("rate(")
    assert rates == query.expr.count("[$__rate_interval]")


@every_query
def test_every_selector_takes_the_namespace(query: Query) -> None:
    for selector in re.findall(r"\bsluice_\w+(.{0,40})", query.expr):
        assert selector.startswith('{namespace=~"$namespace"'), query.expr


def monitored(**dashboards: Any) -> Json:
    """The ConfigMaps of a release, by name."""
    release = render({"monitoring": {"dashboards": {"enabled": True, **dashboards}}})
    return {each["metadata"]["name"]: each for each in release.all("ConfigMap")}


@every_dashboard
def test_the_chart_carries_it_unchanged(name: str) -> None:
    found = monitored()
    assert set(found) == {"sluice-dashboard-overview", "sluice-dashboard-worker"}
    config = found[f"sluice-dashboard-{name}"]
    assert json.loads(config["data"][f"{name}.json"]) == DASHBOARDS[name]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert render().all("ConfigMap") == []
