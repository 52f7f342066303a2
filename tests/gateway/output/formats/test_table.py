"""Which formats a chat template speaks of."""

from __future__ import annotations

import pytest
from sluice_gateway.output.formats import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    Formats,
    Opening,
    detect,
    id_of_nine,
)
from sluice_gateway.output.formats.call_ids import nine_id, random_id

from tests.gateway.output.formats.transcripts import BAR, BEGIN, ONE, SEP
from tests.gateway.text.templates import LLAMA2, LLAMA3, MISTRAL, QWEN3

DEMO = "{{ tools }} <tool_call> {{ message.content }}"
TEMPLATES = [
    ("Llama 2", LLAMA2, None, None),
    ("Llama 3", LLAMA3 + "{{ '\"parameters\": ' }}", "llama3", None),
    ("Mistral v3", MISTRAL, "mistral", None),
    ("Mistral v11", "[TOOL_CALLS] {{ name }}[CALL_ID]{{ id }}[ARGS]", "mistral_v11", None),
    ("Magistral", "[TOOL_CALLS]{{ name }}[ARGS] [THINK]", "mistral_v11", "mistral"),
    ("Qwen 3", QWEN3, "hermes", "think"),
    ("Qwen 2.5", DEMO, "hermes", None),
    ("Qwen 3 Coder", "<tool_call>\n<function=f>\n<parameter=p>", "qwen3_coder", None),
    ("DeepSeek R1", f"{BEGIN}{ONE}function{SEP}f\\n```json\\n</think>", "deepseek_v3", "think"),
    ("DeepSeek V3.1", f"{BEGIN}{ONE}{{{{ name }}}}{SEP}</think>", "deepseek_v31", "think"),
    ("gpt-oss", "<|channel|>analysis<|message|> tools", "harmony", "harmony"),
    ("Granite 3.0", "{{ tools }}<|start_of_role|>", "json", None),
    ("Granite 3.1", "{{ tools }} only with <|tool_call|> and a list", "tool_call_list", None),
    (
        "Granite 3.2",
        "<|tool_call|> after 'Here is my thought process:' and 'Here is my response:'",
        "tool_call_list",
        "granite32",
    ),
    (
        "Granite 3.3",
        "<|tool_call|> between <think></think> and between <response></response>",
        "tool_call_list",
        "granite",
    ),
    ("Granite 4", '<|start_of_role|>{{ tools }}<tool_call>\n{"name"', "hermes", None),
    ("Phi 4 mini", "'<|tool|>' + message['tools'] + '<|/tool|>'", "phi4_mini", None),
    ("Phi 4 mini with calls", "<|tool|>{{ tools }}<|/tool|><|tool_call|>", "tool_call_list", None),
    ("Phi 4 mini as functools", "{{ tools }} functools[{}]", "functools", None),
    ("Nemotron", "<|start_header_id|><TOOLCALL>[{}]</TOOLCALL></think>", "nemotron", "think"),
    ("GLM 4.5", "{{ tools }}<tool_call>{{ name }}<arg_key></think>", "glm", "think"),
    ("Kimi K2", "tools<|tool_call_argument_begin|>{{ x }}<think>", "kimi_k2", "think"),
    ("Seed", "tools<seed:tool_call>\n<function=f>\n<parameter=p>v<seed:think>", "seed_oss", "seed"),
    ("another with tools", "{{ tools | tojson }}", "json", None),
    ("none", "", None, None),
    # Other markup: not taken for anything.
    ("DeepSeek V3.2", f"tools{BAR}DSML{BAR}</think>", None, "think"),
    ("MiniMax M2", "tools<invoke name=\"f\"> '<think>' '\\n<response>'", None, "think"),
    ("Hunyuan", "tools <tool_calls>[", None, None),
    ("LFM2", "tools <|tool_call_start|>[f()]<|tool_call_end|>", None, None),
    ("Gemma 4", "tools <|tool_call>call:f{}<tool_call|>", None, None),
    ("Command R7B", "tools <|START_ACTION|>[", None, None),
    ("Apertus", "tools '<|tools_prefix|>' + '['", None, None),
    ("InternLM", "tools <|action_start|><|plugin|>", None, None),
    ("Olmo 3", "tools <function_calls>f(a='b')</function_calls>", None, None),
    ("Kimi K3", "tools '<|open|>' + tag + '<|sep|>'", None, None),
    ("calls as in Python", "<|start_header_id|>tools [func_name1(a=b)]", None, None),
]


@pytest.mark.parametrize(
    ("template", "tools", "reasoning"),
    [one[1:] for one in TEMPLATES],
    ids=[one[0] for one in TEMPLATES],
)
def test_a_template_shows_its_formats(
    template: str, tools: str | None, reasoning: str | None
) -> None:
    found = detect(template)
    assert (found.tools and found.tools.name) == tools
    assert (found.reasoning and found.reasoning.name) == reasoning


def test_the_operator_chooses_by_name() -> None:
    found = detect(QWEN3, tools="llama3", reasoning="none")
    assert found == Formats(TOOL_FORMATS["llama3"], None)
    found = detect("", tools="none", reasoning="think_always")
    assert found == Formats(None, REASONING_FORMATS["think_always"])
    with pytest.raises(ValueError, match="choose one of auto, none, harmony"):
        detect("", tools="hermess")
    with pytest.raises(ValueError, match="reasoning format 'x'"):
        detect("", reasoning="x")


def test_the_end_of_the_prompt_tells_whether_reasoning_has_begun() -> None:
    style, always = REASONING_FORMATS["think"], REASONING_FORMATS["think_always"]
    assert style.state("<|im_start|>assistant\n") is Opening.OPEN
    assert style.state("What is <think>?<|im_end|>\n<|im_start|>assistant\n") is Opening.OPEN
    assert style.state("<|im_start|>assistant\n<think>\n") is Opening.INSIDE
    assert style.state("<|im_start|>assistant\n<think>\n\n</think>\n\n") is Opening.CLOSED
    assert always.state("<|im_start|>assistant\n") is Opening.INSIDE
    assert always.state("</think>") is Opening.CLOSED


def test_a_message_that_is_continued_tells_it_by_its_text() -> None:
    style = REASONING_FORMATS["think"]
    assert style.state("x", continued="<think>\nSo far") is Opening.INSIDE
    assert style.state("x", continued="<think>a</think>So far") is Opening.CLOSED
    assert style.state("x", continued="So far") is Opening.CLOSED
    assert style.state("<think>", continued="") is Opening.INSIDE


def test_the_marks_are_what_the_text_must_show() -> None:
    assert detect(QWEN3).marks == ("<tool_call>", "</tool_call>", "<think>", "</think>")
    assert "<|channel|>" in Formats(None, REASONING_FORMATS["harmony"]).marks
    assert Formats().marks == ()


def test_an_id_of_nine_comes_back_as_the_model_knew_it() -> None:
    made = nine_id("a1B2c3D4e")
    assert made == "call_a1B2c3D4e"
    assert id_of_nine(made) == "a1B2c3D4e"
    assert id_of_nine("a1B2c3D4e") == "a1B2c3D4e"
    drawn = nine_id("too long for nine")
    assert id_of_nine(drawn) == drawn.removeprefix("call_")


def test_any_other_id_has_nine_characters_of_its_own() -> None:
    found = {id_of_nine(random_id()) for _ in range(100)}
    assert len(found) == 100
    assert all(len(one) == 9 and one.isalnum() and one.isascii() for one in found)
    assert id_of_nine("call_x") == id_of_nine("call_x")
