"""Every query of every panel, asked of a real Prometheus that scraped live services under load."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests import hub
from tests.chart.release import CHART
from tests.conftest import write_fake_model
from tests.dashboards.boards import DASHBOARDS, GPU_QUERIES, QUERIES, Query
from tests.dashboards.scraping import INSTALLED, Prometheus, prometheus, wait_until_scraping
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat

LOAD_SECONDS = 9.0
LOSS_AFTER_SECONDS = 3.0
MODEL = "fake-model"
DOWNLOADED = "org/downloaded"
DEMO = "sluice-demo"
MODEL_LABEL = "model_name"

#: Metrics that are on no panel, and why.
NOT_SHOWN: dict[str, str] = {}

pytestmark = [INSTALLED, pytest.mark.xdist_group("dashboards")]

OF_MODELS = [query for query in QUERIES if f"${MODEL_LABEL}" in query.expr]

every_query = pytest.mark.parametrize("query", QUERIES, ids=str)


@dataclass
class Observed:
    """What the services did, as two Prometheis saw it: with and without Kubernetes' labels."""

    gateway: Gateway
    workers: tuple[Worker, ...]
    plain: Prometheus
    kubernetes: Prometheus
    began: float
    ended: float

    def values(self, source: Prometheus, expr: str) -> list[tuple[dict[str, str], list[float]]]:
        """The series that a graph of the load would have: labels and finite values."""
        span = {"start": self.began, "end": self.ended, "step": "1s"}
        result = source.ask("query_range", query=expr, **span)["result"]
        found = [
            (series["metric"], [float(value) for _, value in series["values"]]) for series in result
        ]
        return [(labels, [one for one in each if math.isfinite(one)]) for labels, each in found]

    def instant(self, source: Prometheus, expr: str) -> list[float]:
        """The numbers that a stat would have in the middle of the load's last second."""
        result = source.ask("query", query=expr, time=self.ended - 0.5)["result"]
        return [float(series["value"][1]) for series in result]


@pytest.fixture(scope="module")
def observed(fake_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("prometheus")
    fake = {"ENGINE": "fake", "BATCH_MAX": "4", "FAKE_STEP_MS": "5", "FAKE_PREFILL_MS": "20"}
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(hub.serving({DOWNLOADED: to_download(folder / "model")}))
        cache = hub.environment(served, folder / "cache")
        workers = (
            stack.enter_context(worker(fake_model_dir, **fake)),
            stack.enter_context(worker(DOWNLOADED, **fake, **cache)),
            # So little memory for keys and values that rows are put back.
            stack.enter_context(worker(KV_CACHE_BYTES="2MiB", BATCH_MAX="4")),
        )
        lost = stack.enter_context(worker(fake_model_dir, **fake))
        addresses = [each.address for each in (*workers, lost)]
        front = stack.enter_context(gateway(*addresses, wait=False))
        front.wait_ready(models=3)
        until_all_are_ready(front, len(addresses))
        urls = [front.url, *(each.metrics_url for each in workers)]
        targets = [httpx.URL(url).netloc.decode() for url in urls]
        in_cluster = {"namespace": "llm", "pod": "some-pod"}
        plain = stack.enter_context(prometheus(folder / "plain", targets))
        kubernetes = stack.enter_context(prometheus(folder / "in-k8s", targets, **in_cluster))
        for each in (plain, kubernetes):
            wait_until_scraping(each, len(targets))
        began = time.time()
        ended = put_load_on(front.url, lost)
        yield Observed(front, workers, plain, kubernetes, began, ended)


def to_download(folder: Path) -> Path:
    """A model that the hub's client takes, with weights of nothing."""
    write_fake_model(folder)
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def until_all_are_ready(front: Gateway, count: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        states = [each["state"] for each in front.health()["workers"]]  # type: ignore[attr-defined]
        if states == ["ready"] * count:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.1)


def put_load_on(url: str, lost: Worker) -> float:
    """All that can happen to requests, over and over and at once. Meanwhile a worker is lost.

    Gives the time until which everything went on.
    """
    least = time.monotonic() + LOAD_SECONDS
    enough = threading.Event()

    def repeat(deed: Callable[[httpx.Client], None], client: httpx.Client) -> None:
        while not enough.wait(0.02):
            deed(client)

    deeds = [answer_many, answer_many, answer, compute, fail, refuse, leave]
    count = 4
    with (
        httpx.Client(base_url=f"{url}/v1/chat", timeout=30) as client,
        ThreadPoolExecutor(len(deeds) + count) as pool,
    ):
        repeated = [pool.submit(repeat, deed, client) for deed in deeds]
        try:
            time.sleep(LOSS_AFTER_SECONDS)
            begun = threading.Barrier(count + 1)
            at_length = [pool.submit(stream_at_length, client, begun) for _ in range(count)]
            begun.wait(timeout=10)
            until_it_has_rows(lost, url)
            lost.process.signal(signal.SIGKILL)
            for each in at_length:
                each.result()
            time.sleep(max(0.0, least - time.monotonic()))
            ended = time.time()
        finally:
            enough.set()
        for each in repeated:
            each.result()
    return ended


def until_it_has_rows(worker: Worker, url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        told = {each["address"]: each for each in httpx.get(f"{url}/health").json()["workers"]}
        if told[worker.address]["rows_running"]:
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.02)


def answer_many(client: httpx.Client) -> None:
    """More rows than one batch has places, so that some wait."""
    body = chat(model=MODEL, max_tokens=40, n=8)
    assert client.post("/completions", json=body).status_code == 200


def stream_at_length(client: httpx.Client, begun: threading.Barrier) -> None:
    """A row that is there for long enough that its worker can be lost under it."""
    body = chat(model=MODEL, max_tokens=400, stream=True)
    with client.stream("POST", "/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines)
        begun.wait(timeout=10)
        assert [line for line in lines if line][-1] == "data: [DONE]"


def answer(client: httpx.Client) -> None:
    body = chat(model=DOWNLOADED, max_tokens=20, stream=True)
    answered = client.post("/completions", json=body)
    assert answered.text.endswith("data: [DONE]\n\n")


def compute(client: httpx.Client) -> None:
    """Rows of a real model that need more memory than there is."""
    body = chat("Tell me a story", model=DEMO, max_tokens=250, n=4, ignore_eos=True)
    assert client.post("/completions", json=body).status_code == 200


def fail(client: httpx.Client) -> None:
    body = chat('fake:{"tokens": 3, "end": "error"}', model=DOWNLOADED, max_tokens=8)
    assert client.post("/completions", json=body).status_code == 500


def refuse(client: httpx.Client) -> None:
    assert client.post("/completions", json=chat(model="no-such-model")).status_code == 404


def leave(client: httpx.Client) -> None:
    body = chat(model=DOWNLOADED, max_tokens=4000, stream=True)
    with client.stream("POST", "/completions", json=body) as response:
        assert next(response.iter_lines())


@every_query
def test_it_shows_data_outside_of_kubernetes(observed: Observed, query: Query) -> None:
    expr = query.with_variables(namespace=".*", model_name=".*")
    check(observed, observed.plain, query, expr, but_for=frozenset({"pod"}))


@every_query
def test_it_shows_data_of_a_namespace_and_chosen_models(observed: Observed, query: Query) -> None:
    expr = query.with_variables(namespace="llm", model_name=f"({MODEL}|{DOWNLOADED}|{DEMO})")
    check(observed, observed.kubernetes, query, expr)


def check(
    observed: Observed,
    source: Prometheus,
    query: Query,
    expr: str,
    but_for: frozenset[str] = frozenset(),
) -> None:
    series = observed.values(source, expr)
    values = [value for _, each in series for value in each]
    assert values, f"no data: {expr}"
    assert any(values), f"nothing but zeros: {expr}"
    for labels, _ in series:
        assert query.legend_labels - but_for <= set(labels), f"{query.legend} has no such label"
    assert len({legend(query, labels) for labels, _ in series}) == len(series), "a legend twice"
    if query.instant:
        assert all(math.isfinite(value) for value in observed.instant(source, expr)), expr
        assert observed.instant(source, expr), expr


def legend(query: Query, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), query.legend)


@every_query
def test_it_shows_nothing_of_other_namespaces(observed: Observed, query: Query) -> None:
    expr = query.with_variables(namespace="elsewhere", model_name=".*")
    for _, values in observed.values(observed.kubernetes, expr):
        assert not any(values), expr


@pytest.mark.parametrize("query", OF_MODELS, ids=str)
def test_it_shows_nothing_of_models_that_were_not_chosen(observed: Observed, query: Query) -> None:
    expr = query.with_variables(namespace=".*", model_name="other")
    for _, values in observed.values(observed.plain, expr):
        assert not any(values), expr


def test_only_metrics_without_a_model_are_shown_of_all_models(observed: Observed) -> None:
    names = {name for query in QUERIES if query not in OF_MODELS for name in query.series}
    assert names
    for name in names:
        assert not [
            labels for labels, _ in observed.values(observed.plain, name) if MODEL_LABEL in labels
        ]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_variables_offer_what_there_is(observed: Observed, name: str) -> None:
    def offered(source: Prometheus, variable: str) -> list[str]:
        told = next(
            each for each in DASHBOARDS[name]["templating"]["list"] if each["name"] == variable
        )
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", told["query"]["query"])
        assert found
        assert told["definition"] == told["query"]["query"]
        match = found[1].replace("$namespace", ".*")
        values: list[str] = source.ask(f"label/{found[2]}/values", **{"match[]": match})
        return values

    assert offered(observed.plain, "namespace") == []
    assert offered(observed.kubernetes, "namespace") == ["llm"]
    for source in (observed.plain, observed.kubernetes):
        assert offered(source, "model_name") == [MODEL, DOWNLOADED, DEMO]


def test_every_metric_is_on_a_panel_or_excused(observed: Observed) -> None:
    texts = [httpx.get(f"{observed.gateway.url}/metrics").text]
    texts += [each.metrics() for each in observed.workers]
    exported = {
        family.name
        for text in texts
        for family in text_string_to_metric_families(text)
        if family.name.startswith("sluice_")
    }
    shown = {metric for query in QUERIES for metric in query.metrics}
    assert len(exported) > 20
    missing = exported - shown - set(NOT_SHOWN)
    assert not missing, f"put them on a panel, or into NOT_SHOWN with the reason: {missing}"
    assert shown <= exported, f"no service exports {shown - exported}"
    assert set(NOT_SHOWN) <= exported - shown, "NOT_SHOWN has what is shown or not exported"
    assert all(NOT_SHOWN.values())


ALERTS = [
    rule
    for group in yaml.safe_load((CHART / "alerts" / "sluice.yaml").read_text())["groups"]
    for rule in group["rules"]
]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_what_an_alert_compares_is_there(observed: Observed, rule: dict[str, Any]) -> None:
    """Its selectors have data, but for the value of a state, which no test can have all of."""
    shorter = re.sub(r"\[\d+m\]( offset \d+m)?", "[5s]", rule["expr"])
    observed.plain.ask("query", query=rule["expr"])
    for name, labels in re.findall(r"(sluice_\w+)(\{[^}]*\})?", shorter):
        selector = re.sub(r'(state|status)=~?"[^"]*"', r'\1!=""', labels)
        selector = selector.replace('reason="overloaded"', 'reason!=""')
        assert observed.values(observed.plain, name + selector), name + selector


@pytest.mark.parametrize("query", GPU_QUERIES, ids=str)
def test_a_query_that_needs_a_gpu_is_one_that_prometheus_takes(
    observed: Observed, query: Query
) -> None:
    """What it names is NVIDIA's exporter's or vLLM's: the suite of vLLM looks at the latter."""
    observed.plain.ask("query", query=query.with_variables(namespace=".*", model_name=".*"))
    assert set(re.findall(r"\b(DCGM|vllm|sluice)(?=[_:])", query.expr)) in ({"DCGM"}, {"vllm"})
