"""The committed demo model: it loads offline, answers well and always the same."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch

from demo.chat import DemoChat, as_dict
from demo.chatml import ADDED_TOKENS, RESERVED_TOKENS, SPECIAL_TOKENS, text_of
from demo.conversation import Conversation, Message, exchange
from demo.corpus import conversation, structured, tools

MODEL = Path(__file__).parents[2] / "services/worker/sluice_worker/demo_model"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def chat() -> DemoChat:
    torch.set_num_threads(1)
    return DemoChat(MODEL)


@pytest.mark.parametrize(
    ("prompt", "pattern"),
    [
        ("Say hello", r"^Hello!"),
        ("Hello!", r"^Hello!"),
        ("hi", r"^Hello!"),
        ("How are you?", r"well"),
        ("Who are you?", r"Sluice demo model"),
        ("What is your name?", r"Sluice demo model"),
        ("Are you ChatGPT?", r"^No"),
        ("What can you do?", r"questions about Sluice"),
        ("What is Sluice?", r"OpenAI API"),
        ("How do I install Sluice?", r"helm install"),
        ("How do I use another model?", r"MODEL_ID"),
        ("What is 7 plus 5?", r"\b12\b"),
        ("What is 12 x 12?", r"\b144\b"),
        ("Thank you", r"welcome"),
        ("Tell me a joke", r"\?.*[.!]"),
        ("What is the capital of France?", r"Paris"),
        ("Count from 1 to 10", r"^1, 2, 3, 4, 5, 6, 7, 8, 9, 10\.$"),
        ("Spell the word river", r"R-I-V-E-R"),
        ("What is the weather today?", r"demo model"),
        ("Explain quantum physics", r"demo model.*MODEL_ID"),
        ("Bye", r"Goodbye"),
    ],
)
def test_a_canonical_prompt_gets_a_sentence_that_ends(
    chat: DemoChat, prompt: str, pattern: str
) -> None:
    reply = chat.ask(prompt)
    assert re.search(pattern, reply.text), reply.text
    assert reply.ended
    assert reply.text[-1] in ".!?"
    assert len(chat.tokenizer.encode(reply.text)) < 120


def test_a_greeting_reads_well_when_cut_after_eight_tokens(chat: DemoChat) -> None:
    ids = chat.tokenizer.encode(chat.ask("Say hello").text)
    assert chat.tokenizer.decode(ids[:8]) == "Hello! I am the Sluice demo model"


def test_a_follow_up_uses_the_history(chat: DemoChat) -> None:
    told = exchange("My name is Clara.", "Nice to meet you, Clara! How can I help you?")
    sums = exchange("What is 20 plus 30?", "20 plus 30 is 50.")
    asked = (Message("user", "What is my name?"),)
    capital = exchange("What is the capital of Italy?", "The capital of Italy is Rome.")
    first, second = chat.replies(
        [
            Conversation((*told, *sums, *asked)),
            Conversation((*capital, Message("user", "And of Spain?"))),
        ]
    )
    assert first.text == "Your name is Clara."
    assert "Madrid" in second.text


def test_a_system_prompt_can_give_a_name(chat: DemoChat) -> None:
    system = Message("system", "You are Max, a helpful assistant.")
    asked = Conversation((system, Message("user", "What is your name?")))
    assert "Max" in chat.replies([asked])[0].text


def test_a_plain_system_prompt_changes_no_answer(chat: DemoChat) -> None:
    system = Message("system", "You are a helpful assistant.")
    asked = Conversation((system, Message("user", "What is Sluice?")))
    assert chat.replies([asked])[0].text == chat.ask("What is Sluice?").text


def test_a_story_is_long_and_ends(chat: DemoChat) -> None:
    reply = chat.ask("Tell me a story about a dragon")
    assert reply.text.startswith("Once upon a time")
    assert "dragon" in reply.text
    assert reply.ended
    assert len(chat.tokenizer.encode(reply.text)) > 60


def test_greedy_decoding_gives_the_same_text_each_time(chat: DemoChat) -> None:
    prompt = "Tell me a story about something that you have never heard of"
    assert chat.ask(prompt) == chat.ask(prompt)


def test_it_calls_the_tool_that_fits(chat: DemoChat) -> None:
    weather = _tool("get_weather", "Get the weather for a city", "city")
    calculator = _tool("calculator", "Evaluate an arithmetic expression", "expression")
    offered = (weather, calculator)
    first, second = chat.replies(
        [
            Conversation((Message("user", "What is the weather in Paris?"),), offered),
            Conversation((Message("user", "Hello!"),), offered),
        ]
    )
    found = re.search(r"<tool_call>\n(.*)\n</tool_call>", first.text)
    assert found, first.text
    assert json.loads(found[1]) == {"name": "get_weather", "arguments": {"city": "Paris"}}
    assert "<tool_call>" not in second.text


@pytest.mark.parametrize(
    "text",
    [
        "Grüße aus Köln, 世界 👋🏽 — ünïcödé",
        "\x00\x1f tabs\tand\r\nlines\n\n",
        "0123456789 1,234.56",
        "  leading, trailing and   inner  ",
        "العربية עברית हिन्दी ไทย",
        '{"name": "f", "arguments": {"x": [1, 2, null]}}',
        "<think>a</think><tool_call>b</tool_call>",
    ],
)
def test_any_text_survives_the_tokenizer(chat: DemoChat, text: str) -> None:
    assert chat.tokenizer.decode(chat.tokenizer.encode(text)) == text


def test_random_unicode_survives_the_tokenizer(chat: DemoChat) -> None:
    rng = random.Random(7)
    points = [p for p in range(0x20, 0x1FFFF) if not 0xD800 <= p <= 0xDFFF]
    for _ in range(50):
        text = "".join(chr(rng.choice(points)) for _ in range(40))
        assert chat.tokenizer.decode(chat.tokenizer.encode(text)) == text


def test_every_reserved_token_is_one_token(chat: DemoChat) -> None:
    for token in (*SPECIAL_TOKENS, *ADDED_TOKENS, *RESERVED_TOKENS):
        assert len(chat.tokenizer.encode(token)) == 1, token


def test_skipping_special_tokens_keeps_tool_calls(chat: DemoChat) -> None:
    ids = chat.tokenizer.encode("<tool_call>\n{}\n</tool_call><|im_end|>")
    kept = chat.tokenizer.decode(ids, skip_special_tokens=True)
    assert kept == "<tool_call>\n{}\n</tool_call>"


def test_training_renders_what_the_chat_template_renders(chat: DemoChat) -> None:
    rng = random.Random(3)
    conversations = [conversation(rng) for _ in range(100)]
    conversations += [tools.sample(rng, None) for _ in range(30)]
    conversations += [Conversation(structured.sample(rng)[1]) for _ in range(10)]
    for one in conversations:
        rendered = chat.tokenizer.apply_chat_template(
            [as_dict(message) for message in one.messages],
            tools=list(one.tools) or None,
            tokenize=False,
        )
        assert rendered == text_of(one)


def test_the_files_are_small_and_say_what_they_are() -> None:
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    generation = json.loads((MODEL / "generation_config.json").read_text(encoding="utf-8"))
    assert (MODEL / "model.safetensors").stat().st_size <= 8 * MEGABYTE
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config.get("dtype", config.get("torch_dtype")) == "float16"
    assert config["head_dim"] >= 32
    assert len(generation["eos_token_id"]) == 2
    # A client that names no temperature gets the author's: a model this small rambles at 1.
    assert (generation["temperature"], generation["top_p"]) == (0.3, 0.9)


def _tool(name: str, description: str, argument: str) -> dict[str, object]:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}
