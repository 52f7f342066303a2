"""From the bytes of a body to a request, or to one error in OpenAI's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluice_gateway.errors import InvalidRequest
from sluice_gateway.schema.strict import (
    INVALID,
    INVALID_TYPE,
    MISSING,
    UNKNOWN,
    UNSUPPORTED,
    Strict,
)

R = TypeVar("R", bound=Strict)

DEPTH_MAX = 64
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OUR_KINDS = {INVALID, INVALID_TYPE, MISSING, UNKNOWN, UNSUPPORTED}
_PARAM_MAX = 256

# What was expected, by pydantic's name of the error.
_EXPECTED = {
    "bool_type": "a boolean",
    "dict_type": "an object",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
# What is wrong with a value of the right type, filled in from pydantic's context of the error.
_RULES = {
    "finite_number": "expected a finite number",
    "greater_than": "expected a value above {gt}",
    "greater_than_equal": "expected a value of at least {ge}",
    "less_than_equal": "expected a value of at most {le}",
    "literal_error": "expected {expected}",
    "string_too_long": "expected at most {max_length} characters",
    "string_too_short": "expected at least {min_length} character(s)",
    "too_long": "expected at most {max_length} items",
    "too_short": "expected at least {min_length} item(s), but got {actual_length}",
}
_JSON_NAMES = {
    bool: "a boolean",
    dict: "an object",
    float: "a decimal number",
    int: "an integer",
    list: "a list",
    str: "a string",
}


def parse(body: bytes, model_class: type[R]) -> R:
    """The body as a ``model_class``.

    Raises InvalidRequest for whatever is wrong with it: one error, the first, which names the
    field in ``param``. The work is linear in the body, however much of it is wrong: the models
    end at the first bad item of a list and at the first unknown key.
    """
    data = _load(body)
    if not isinstance(data, dict):
        _refuse_json("expected an object at the top")
    try:
        return model_class.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _invalid(details[0]) from None
    except RecursionError:
        _refuse_json("it is nested too deeply")


def _load(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        _refuse_json("it is not UTF-8")
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        _refuse_json(f"{error.msg.lower()} at line {error.lineno}, column {error.colno}")
    except ValueError:  # Python reads no integer of thousands of digits
        _refuse_json("a number in it has too many digits")
    except RecursionError:
        _refuse_json("it is nested too deeply")
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        _check_depth(data)
    if _SURROGATE.search(body):
        _check_surrogates(data)
    return data


def _refuse_json(why: str) -> NoReturn:
    raise InvalidRequest(f"The request body is not valid JSON: {why}.", code="invalid_json")


def _no_constant(name: str) -> NoReturn:
    _refuse_json(f"{name} is not a JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = _first_repeated(name for name, _ in pairs)
        _check_surrogates(twice)  # before it is quoted
        # Readers of JSON differ in which one they take: so a filter in front could see another
        # request than we do.
        raise InvalidRequest(
            f"The request has '{_short(twice)}' twice in one object.", param=_short(twice)
        )
    return found


def _first_repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise ValueError("no name is repeated")


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(DEPTH_MAX):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    _refuse_json("it is nested too deeply")


def _children(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value
    return [child for child in inside if isinstance(child, (dict, list))]


def _check_surrogates(data: Any) -> None:
    path = _half_pair(data)
    if path is not None:
        message = "Half of a surrogate pair is no character: send whole characters."
        raise InvalidRequest(message, param=_path(path) or None)


def _half_pair(value: Any) -> list[int | str] | None:
    """The path to half of a surrogate pair, through keys that have none; None: there is none."""
    children: Iterable[tuple[int | str, Any]] = ()
    if isinstance(value, str):
        return None if _is_whole(value) else []
    if isinstance(value, dict):
        if not all(map(_is_whole, value)):
            return []
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for place, child in children:
        if isinstance(child, (str, dict, list)):
            path = _half_pair(child)
            if path is not None:
                return [place, *path]
    return None


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _invalid(error: ErrorDetails) -> InvalidRequest:
    context: Mapping[str, Any] = error.get("ctx") or {}
    loc = [part for part in error["loc"] if not (isinstance(part, str) and _is_tag(part))]
    if context.get("field") is not None:
        loc.append(context["field"])
    param = _path(loc)
    kind = error["type"]
    if kind in _OUR_KINDS:
        return _of_ours(kind, error["msg"], param)
    if kind == "missing":
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code=MISSING)
    if kind == "float_type" and isinstance(error["input"], int) and error["input"] is not True:
        return InvalidRequest(f"Invalid '{param}': the number is too large.", param=param)
    if kind in _EXPECTED:
        got = _JSON_NAMES.get(type(error["input"]), "something else")
        message = f"Invalid type for '{param}': expected {_EXPECTED[kind]}, but got {got} instead."
        return InvalidRequest(message, param=param, code=INVALID_TYPE)
    rule = _RULES[kind].format(**context) if kind in _RULES else error["msg"]
    return InvalidRequest(f"Invalid '{param}': {_sentence(rule)}", param=param)


def _is_tag(part: str) -> bool:
    # What pydantic puts in for a branch of a union (we name those "<...>") or a key of a map.
    return part.startswith("<") or part == "[key]"


def _of_ours(kind: str, message: str, param: str) -> InvalidRequest:
    if kind == UNKNOWN:
        message = f"Unknown parameter: '{param}'."
    elif kind == INVALID_TYPE:
        message = f"Invalid type for '{param}': {_sentence(message)}"
    elif kind == INVALID and not message.startswith("'"):
        message = f"Invalid '{param}': {_sentence(message)}"
    elif kind == UNSUPPORTED and f"'{param}'" not in message:
        message = f"Unsupported '{param}': {_sentence(message)}"
    return InvalidRequest(message, param=param or None, code=kind)


def _sentence(message: str) -> str:
    message = message[:1].lower() + message[1:]
    return message if message.endswith(".") else message + "."


def _path(loc: Sequence[int | str]) -> str:
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return _short(path)


def _short(text: str) -> str:
    # It goes into a header-sized field of the answer and into the log.
    return text if len(text) <= _PARAM_MAX else text[:_PARAM_MAX] + "..."
