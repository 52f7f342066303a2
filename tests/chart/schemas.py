"""Kubernetes' own schemas, strict, and those of the other kinds that the chart can make."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
from kubernetes_validate.utils import latest_version, major_minor
from referencing import Registry, Resource

CRDS = Path(__file__).parent / "crds"
OLDEST, COMMON, NEWEST = "1.28", "1.31", major_minor(latest_version())


def errors(each: dict[str, Any], version: str) -> list[str]:
    """What a cluster of this version would say against an object."""
    found = _validator(each["kind"], each["apiVersion"], version).iter_errors(each)
    return [f"{each['kind']}: {'.'.join(map(str, one.path))}: {one.message}" for one in found]


@cache
def _validator(kind: str, api_version: str, version: str) -> jsonschema.Draft202012Validator:
    own = CRDS / f"{kind.lower()}.json"
    if own.is_file():
        return jsonschema.Draft202012Validator(json.loads(own.read_text()))
    # The package reads all definitions again for each object: here they are read once.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((_folder(version) / f"{kind.lower()}-{group}.json").read_text())
    registry = Resource.from_contents(schema) @ _definitions(version)
    return jsonschema.Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Registry[Any]:
    schema = json.loads((_folder(version) / "_definitions.json").read_text())
    registry: Registry[Any] = Registry()
    return Resource.from_contents(schema) @ registry


def _folder(version: str) -> Any:
    name = f"v{version}.0-local-strict"
    return files("kubernetes_validate") / "kubernetes-json-schema" / name
