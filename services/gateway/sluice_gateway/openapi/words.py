"""What is said of each field of a request: the one place for it.

By the class that declares the field. /openapi.json and docs/api.md take it from here, and a test
sees that no field is without.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_SAMPLING = {
    "model": "The model's name, or an adapter's. Left out: the only base model there is.",
    "n": "How many answers. `n` times the number of prompts is at most 128.",
    "max_tokens": "The most tokens of one answer. Chat: as many as the context has room for;"
    " completions: 16.",
    "min_tokens": "Neither end-of-sequence nor a stop counts before so many tokens.",
    "temperature": "0: always the likeliest token. Left out: the model's own default, else 1.",
    "top_p": "The share of probability drawn from; 0 is the likeliest token alone. Left out: the"
    " model's own default, else 1.",
    "top_k": "How many tokens are drawn from; 0 and -1: all. Left out: the model's own default,"
    " else all.",
    "min_p": "Tokens below this share of the likeliest one's probability are out. Left out: the"
    " model's own default, else 0.",
    "presence_penalty": "Off the logits of tokens that were generated. Left out: 0.",
    "frequency_penalty": "The same, for each time that one was generated. Left out: 0.",
    "repetition_penalty": "Above 0. Divides the logits of tokens in prompt and answer. Left out:"
    " the model's own default, else 1.",
    "logit_bias": "Added to the logits of token ids. An id outside of the vocabulary is a 400.",
    "allowed_token_ids": "Nothing but these is generated.",
    "bad_words": "Texts that are not generated, with or without a space before them, as the model's"
    " tokenizer writes them; at most 1024 tokens in all. Other tokens may spell the same text,"
    " above all where a form leaves nothing else.",
    "seed": "The same request with the same seed gives the same draws; the j-th answer to a prompt,"
    " from 0, has seed + j.",
    "stop": "Strings that end an answer; they are not in it. Found wherever tokens begin or end.",
    "stop_token_ids": "Tokens that end an answer.",
    "ignore_eos": "End-of-sequence does not end an answer.",
    "include_stop_str_in_output": "The stop string is part of the answer.",
    "skip_special_tokens": "Special tokens are no text of the answer.",
    "stream": "The answer comes as server-sent events.",
    "stream_options": "Needs `stream`.",
    "return_token_ids": "The answer has `token_ids` and `prompt_token_ids`.",
    "user": "Accepted; asks nothing of the server.",
    "safety_identifier": "Accepted; asks nothing of the server.",
    "prompt_cache_key": "Accepted; asks nothing of the server.",
    "metadata": "Accepted; asks nothing of the server, and is not kept.",
    "service_tier": "Told back in the answer. There is one tier, which all of these mean.",
    "priority": "Of requests that wait for a place in a batch those with the lower value come"
    " first, and of equals those that came first. Left out: 0. An engine that cannot do that is a"
    " 400.",
}

_CONVERSATION = {
    "messages": "The conversation, rendered by the model's own chat template.",
    "add_generation_prompt": "The prompt ends with the beginning of a new answer. Left out: yes,"
    " unless `continue_final_message`.",
    "continue_final_message": "The answer goes on with the last message, an assistant's.",
    "chat_template_kwargs": "Variables of the chat template: those that the operator allows"
    " (`CHAT_TEMPLATE_KWARGS`).",
}

_TOOLS = {
    "tools": "Functions that the answer may call, of 524,288 bytes in all. A model whose chat"
    " template knows no calls is a 400, unless `tool_choice` is `none`.",
    "tool_choice": "Needs `tools`, unless `none` or `auto`. Left out: `auto` with tools.",
    "parallel_tool_calls": "`false`: at most one call, which is enforced. Needs `tools`.",
}

_STRUCTURED = {
    "response_format": "The form of the answer's text, which is enforced.",
    "structured_outputs": "vLLM's form of the same; excludes `response_format` other than text.",
}

#: By class, then by the name in JSON.
WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "SamplingRequest": _SAMPLING,
        "Conversation": _CONVERSATION,
        "ToolFields": _TOOLS,
        "StructuredFields": _STRUCTURED,
        "ReasoningFields": {
            "reasoning_effort": "A variable of the chat template. `none` also sets"
            " `enable_thinking` and `thinking` to false. A template that reads none of these makes"
            " the same prompt without it."
        },
        "ChatRequest": {
            "thinking_token_budget": "The most tokens of reasoning; then it is ended, and the"
            " answer goes on. -1: no bound. A model that does not begin and end its reasoning with"
            " one token each is a 400.",
            "max_completion_tokens": "As `max_tokens`, and wins over it.",
            "logprobs": "The answer has log-probabilities of its content.",
            "top_logprobs": "How many of the likeliest tokens at each place. Needs `logprobs`.",
        },
        "CompletionRequest": {
            "prompt": "A text, or token ids, or a list of either.",
            "best_of": "So many are generated, and the `n` with the best mean log-probability are"
            " the answer. Not below `n`; above it not with `stream`. Left out: `n`.",
            "max_tokens": "The most tokens of one choice. 0, only with `echo`: the prompt alone."
            " Left out: 16.",
            "echo": "The prompt is the beginning of the text; with `logprobs` they begin with its"
            " tokens, of which one request may have 131,072 in all choices.",
            "logprobs": "Log-probabilities, with so many of the likeliest tokens at each place.",
        },
        "TokenizeRequest": {
            "model": "As in a chat.",
            "prompt": "A text. Either this or `messages`.",
            "messages": "A conversation of at most 1,000,000 characters. Either this or `prompt`.",
            "add_special_tokens": "What the tokenizer puts around a text. Left out: yes for a"
            " text, no for a conversation, whose template writes it.",
        },
        "DetokenizeRequest": {
            "model": "As in a chat.",
            "tokens": "The token ids. One outside of the vocabulary is a 400.",
        },
        "StreamOptions": {
            "include_usage": "A last chunk with `usage` and no choices; null in all others.",
            "include_timings": "With `include_usage`: the last chunk has `timings`, too: queue,"
            " prefill, time to first token, batch size, worker.",
            "continuous_usage_stats": "With `include_usage`: every chunk has the usage so far.",
            "include_obfuscation": "Accepted; nothing is padded.",
        },
        "Message": {
            "role": "Who speaks.",
            "content": "A text, or parts of it. Only an assistant's message with `tool_calls` or"
            " `refusal` may be without.",
            "name": "The speaker's name, for templates that show it.",
            "tool_call_id": "The call that is answered. `tool` only, which needs it.",
            "tool_calls": "`assistant` only.",
            "refusal": "`assistant` only; read as text where there is no content.",
            "reasoning_content": "`assistant` only; for templates that show it.",
            "reasoning": "`assistant` only; another name of `reasoning_content`.",
            "parsed": "Accepted, since OpenAI's client adds it: `content` again.",
        },
        "TextPart": {"type": "", "text": "The text."},
        "RefusalPart": {"type": "", "refusal": "Read as text."},
        "ToolCall": {
            "id": "As the answer had it.",
            "type": "",
            "function": "What was called.",
            "index": "Accepted; the order of the list is what counts.",
        },
        "Function": {
            "name": "The function's name.",
            "arguments": "JSON, as the model wrote it.",
            "parsed_arguments": "Accepted, since OpenAI's client adds it: `arguments` again.",
        },
        "Tool": {"type": "", "function": "The function."},
        "FunctionTool": {
            "name": "Once among the tools.",
            "description": "For the model.",
            "parameters": "The JSON Schema of the arguments, an object's: at most 65,536 bytes, 32"
            " deep, 10,000 objects and lists.",
            "strict": "The arguments are held to the schema while they are generated.",
        },
        "NamedTool": {"type": "", "function": "The one that has to be called."},
        "NamedFunction": {"name": "The function's name."},
        "AllowedToolsChoice": {"type": "", "allowed_tools": "Those that may be called."},
        "AllowedTools": {
            "mode": "`required`: one of them has to be called.",
            "tools": "Some of the request's `tools`.",
        },
        "TextFormat": {"type": "Any text."},
        "JsonObjectFormat": {"type": "Any JSON object."},
        "JsonSchemaFormat": {"type": "JSON of a schema.", "json_schema": "The schema."},
        "NamedSchema": {
            "name": "A name for it.",
            "description": "For humans.",
            "schema": "A JSON Schema, bounded as a function's. Left out: any object.",
            "strict": "What of the schema cannot be enforced is a 400, not left out.",
        },
        "StructuredOutputs": {
            "json": "A JSON Schema, also as JSON text, bounded as a function's.",
            "regex": "A regular expression for the whole text.",
            "choice": "One of these texts.",
            "grammar": "A context-free grammar in Lark's notation, as llguidance reads it.",
        },
    }
)
