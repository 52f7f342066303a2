"""Kubernetes' own schemas, strict, and those of the kinds that operators bring to a cluster."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
from kubernetes_validate.utils import latest_version, major_minor
from referencing import Registry, Resource

Object = dict[str, Any]

CUSTOM = Path(__file__).parent / "custom_kinds"
OLDEST, COMMON, NEWEST = "1.28", "1.31", major_minor(latest_version())

#: Kinds whose own schemas are in npm packages (custom_kinds/package.json), by their groups.
_PACKAGED = ("gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com")


def is_packaged(each: Object) -> bool:
    """Whether ``custom_errors`` is who knows this kind."""
    return each["apiVersion"].partition("/")[0] in _PACKAGED


def errors(each: Object, version: str) -> list[str]:
    """What a cluster of this version would say against an object."""
    found = _validator(each["kind"], each["apiVersion"], version).iter_errors(each)
    return [f"{each['kind']}: {'.'.join(map(str, one.path))}: {one.message}" for one in found]


def custom_errors(objects: Sequence[Object]) -> list[str]:
    """What operators' own schemas say against objects, all of packaged kinds."""
    if not (CUSTOM / "node_modules").is_dir():
        raise RuntimeError("the schemas of custom kinds are not installed: run 'make test'")
    command = ["node", str(CUSTOM / "check.mjs")]
    ended = subprocess.run(
        command, input=json.dumps(objects), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found: list[list[str]] = json.loads(ended.stdout)
    return [
        f"{each['kind']}: {one}"
        for each, complaints in zip(objects, found, strict=True)
        for one in complaints
    ]


@cache
def _validator(kind: str, api_version: str, version: str) -> jsonschema.Draft202012Validator:
    own = CUSTOM / f"{kind.lower()}.json"
    # The package reads all definitions again for each object: here they are read once.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    path = own if own.is_file() else _folder(version) / f"{kind.lower()}-{group}.json"
    schema = json.loads(path.read_text())
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
