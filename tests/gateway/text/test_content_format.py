from __future__ import annotations

from pathlib import Path

import pytest
from sluice_gateway.template import ChatTemplate

from tests.gateway.text.templates import FAMILIES

DEMO = Path("services/worker/sluice_worker/demo_model/chat_template.jinja")
PARTS = {
    "plain": "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
    "item": "{% for m in messages %}{% for p in m['content'] %}{% endfor %}{% endfor %}",
    "renamed": "{% set all = messages[1:] %}{% for m in all %}{% set c = m['content'] %}"
    "{% for p in c %}{{ p.text }}{% endfor %}{% endfor %}",
    "filtered": "{% for m in messages | reverse %}"
    "{% for p in m.content | selectattr('type', 'equalto', 'text') %}{% endfor %}{% endfor %}",
    "macro": "{% macro show(what) %}{% if what is string %}{{ what }}{% else %}"
    "{% for p in what %}{{ p.text }}{% endfor %}{% endif %}{% endmacro %}"
    "{% for m in messages %}{{ show(m.content) }}{% endfor %}",
    "first": "{% set system = messages[0] %}{% for p in system.content %}{% endfor %}",
}


@pytest.mark.parametrize("name", PARTS)
def test_a_template_that_loops_over_contents_gets_parts(name: str) -> None:
    assert ChatTemplate({"default": PARTS[name]}).format() == "parts"


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gemma"}))
def test_a_template_that_writes_contents_out_gets_strings(family: str) -> None:
    assert ChatTemplate({"default": FAMILIES[family]}).format() == "string"


def test_the_demo_model_and_gemma_get_parts() -> None:
    assert ChatTemplate({"default": DEMO.read_text()}).format() == "parts"
    assert ChatTemplate({"default": FAMILIES["gemma"]}).format() == "parts"


def test_a_loop_over_pieces_of_a_string_is_no_loop_over_parts() -> None:
    template = "{% for m in messages %}{% for p in m.content.split('x') %}{% endfor %}{% endfor %}"
    assert ChatTemplate({"default": template}).format() == "string"
