from __future__ import annotations

import math

import pytest

from bench.stats import figure, percentile, table


def test_percentiles_lie_between_neighbours() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.5) == 1.5
    assert percentile([float(value) for value in range(101)], 0.99) == pytest.approx(99.0)
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 5.0], 1.0) == 5.0


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))
    assert figure(percentile([], 0.5)) == "-"


def test_a_table_is_aligned() -> None:
    assert table(["name", "µs"], [["a", "12.5"], ["longer", "7.0"]]).splitlines() == [
        "| name   |   µs |",
        "| ------ | ---: |",
        "| a      | 12.5 |",
        "| longer |  7.0 |",
    ]
