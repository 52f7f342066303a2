"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from sluice_gateway import __version__
from sluice_gateway.openapi.answers import Answer
from sluice_gateway.openapi.operations import OPERATIONS, Operation
from sluice_gateway.openapi.outcomes import responses
from sluice_gateway.openapi.requests import REF, request_schemas
from sluice_gateway.openapi.states import Error

Json = dict[str, Any]

DESCRIPTION = """\
The API of OpenAI for language models, with extensions by vLLM's names. Null means the same as
leaving a field out. What a field asks for and the server does not do is a 400 that names it. An
integer is written without a decimal point. A path with another method is a 405; one that there is
not is a 404. docs/api.md tells more."""

WAIT: Json = {
    "name": "x-sluice-wait",
    "in": "header",
    "description": "Seconds, above 0, that the request waits for its model if that is not ready.",
    "schema": {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?$"},
    "example": "60",
}
REQUEST_ID: Json = {
    "name": "x-request-id",
    "in": "header",
    "description": "The request's id in the log and in the answer, if it is of letters, digits"
    " and `._:-`, at most 128; else the gateway makes one.",
    "schema": {"type": "string"},
}
MODEL: Json = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The model's name. A slash in it may stand as it is.",
    "schema": {"type": "string", "minLength": 1},
}


def document(*, keys: bool) -> Json:
    """The document of a gateway that asks for keys, or of one that does not."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, keys=keys)
    components: Json = {
        "schemas": {**request_schemas(), **answer_schemas()},
        "parameters": {"Wait": WAIT, "RequestId": REQUEST_ID, "Model": MODEL},
        "headers": {
            "RequestId": {
                "description": "The request's id; the log has it too.",
                "schema": {"type": "string"},
            }
        },
    }
    if keys:
        words = "A key of the file that the operator gave the gateway (`API_KEYS_FILE`)."
        scheme = {"type": "http", "scheme": "bearer", "description": words}
        components["securitySchemes"] = {"key": scheme}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": __version__, "description": DESCRIPTION},
        "paths": paths,
        "components": components,
    }


def answer_schemas() -> dict[str, Json]:
    """The schemas of all answers and of the objects in them, by name."""
    answers: list[type[Answer]] = [Error]
    for operation in OPERATIONS:
        answers += operation.answers.values()
        if operation.chunk is not None:
            answers.append(operation.chunk)
    _, found = models_json_schema(
        [(answer, "validation") for answer in dict.fromkeys(answers)],
        ref_template=REF,
        schema_generator=_Generator,
    )
    schemas: dict[str, Json] = found["$defs"]
    return schemas


class _Generator(GenerateJsonSchema):
    """Leaves out what answers have no use for."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No: titles that are the fields' names say nothing."""
        return False

    def default_schema(self, schema: Any) -> Json:
        """Without the default: it stands for a field that may be absent."""
        return self.generate_inner(schema["schema"])


def _operation(operation: Operation, *, keys: bool) -> Json:
    parameters = ["RequestId"]
    if operation.waits:
        parameters.append("Wait")
    if "{model}" in operation.path:
        parameters.append("Model")
    found: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters],
        "responses": responses(operation, keys=keys),
    }
    if operation.request is not None:
        schema = {"$ref": REF.format(model=operation.request.__name__)}
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if keys and operation.keyed:
        found["security"] = [{"key": []}]
    return found
