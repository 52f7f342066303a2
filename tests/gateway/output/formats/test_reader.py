from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.output.formats.json_scan import JsonScan
from sluice_gateway.output.formats.reader import Marks, Reader, Steps

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
WHOLE = st.lists(VALUES) | st.dictionaries(st.text(), VALUES) | st.text()


@settings(max_examples=200, deadline=None)
@given(WHOLE, st.booleans(), st.sampled_from([None, 2]), st.sampled_from(["", "}", " x", '"']))
def test_a_value_ends_where_its_json_does(
    value: object, ascii_only: bool, indent: int | None, after: str
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    scan = JsonScan()
    assert scan.scan(text + after, 0) == len(text)
    assert scan.done
    # And in pieces.
    reader, taken = Reader(), list[str]()

    def read() -> Steps[bool]:
        return (yield from reader.value(taken.append))

    steps, result = read(), None
    for char in text + after:
        reader.push(char)
        try:
            next(steps)
        except StopIteration as stop:
            result = stop.value
            break
    assert result is True
    assert "".join(taken) == text


def test_what_is_no_json_breaks_a_value() -> None:
    for text, at in (("{'a'}", 1), ('{"a": <', 6), ("[é]", 1)):
        scan = JsonScan()
        assert scan.scan(text, 0) == at
        assert scan.broken
        assert not scan.done


@settings(max_examples=300, deadline=None)
@given(st.text("abc", max_size=20), st.integers(0, 20))
def test_what_may_begin_a_mark_is_known(text: str, at: int) -> None:
    strings = ["abca", "bb", "ca"]
    at = min(at, len(text))
    expected = max(
        (
            size
            for size in range(len(text) - at + 1)
            if any(
                size < len(string) and string.startswith(text[len(text) - size :])
                for string in strings
            )
        ),
        default=0,
    )
    found = Marks(strings).begun(text, at)
    # A whole mark at the end is for the pattern to find first.
    if Marks(strings).pattern.search(text, at) is None:
        assert found == expected
