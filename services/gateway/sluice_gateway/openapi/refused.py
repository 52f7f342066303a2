"""Why a field that clients know is not honoured: the one place for it.

The fields themselves, and the values of each that ask for nothing, are with the models
(``unsupported`` in ``schema/``); a test sees that each has its reason here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_GUIDED = "An old name of vLLM's: use `structured_outputs`."

#: By the name of the field.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "add_special_tokens": "A chat's template writes special tokens itself, a text's tokenizer"
        " adds them.",
        "annotations": "Nothing that models here write has them.",
        "audio": "There is text only.",
        "best_of": "A chat has `n`.",
        "cache_salt": "Prefixes are not kept apart by client.",
        "chat_template": "A template decides what is a special token: never a client's.",
        "documents": "Put them into a message.",
        "early_stopping": "There is no beam search.",
        "echo": "A chat's prompt is not part of its answer.",
        "function_call": "OpenAI's old form of tools: use `tool_choice`, or `tool_calls` in a"
        " message.",
        "functions": "OpenAI's old form of tools: use `tools`.",
        "guided_choice": _GUIDED,
        "guided_decoding_backend": "There is one backend, llguidance.",
        "guided_grammar": _GUIDED,
        "guided_json": _GUIDED,
        "guided_regex": _GUIDED,
        "guided_whitespace_pattern": "JSON is written without white space between its parts.",
        "include_reasoning": "Reasoning is always told apart, and told.",
        "kv_transfer_params": "Keys and values are not moved between workers.",
        "length_penalty": "There is no beam search.",
        "logits_processors": "No code comes from clients.",
        "media_io_kwargs": "There is text only.",
        "mm_processor_kwargs": "There is text only.",
        "modalities": "There is text only.",
        "moderation": "Nothing is moderated.",
        "prediction": "Nothing is made of a predicted answer.",
        "prompt_cache_options": "How long prefixes are kept is for the worker to say.",
        "prompt_cache_retention": "How long prefixes are kept is for the worker to say.",
        "prompt_logprobs": "Not there yet.",
        "request_id": "Send the header `x-request-id`.",
        "return_token_strs": "Ids alone are returned.",
        "return_tokens_as_token_ids": "Use `return_token_ids`.",
        "spaces_between_special_tokens": "Text is what the tokens say.",
        "store": "Nothing is stored.",
        "suffix": "Text is not filled in.",
        "thinking_token_budget": "A completion is text as the model writes it: use a chat.",
        "truncate_prompt_tokens": "No prompt is cut in silence: shorten it.",
        "use_beam_search": "There is no beam search.",
        "verbosity": "Models here know nothing of it.",
        "vllm_xargs": "Nothing goes to an engine unseen.",
        "web_search_options": "Nothing is searched.",
    }
)
