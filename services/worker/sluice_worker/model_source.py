"""From MODEL_ID to a directory with the model's files."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from sluice_worker.settings import Settings

DEMO = "demo"
DEMO_NAME = "sluice-demo"

#: What an engine needs of a hub repository: no pickles, no copies in other formats.
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class ModelNotUsable(Exception):
    """The model cannot be had; the message says why and what to do."""


def served_name(settings: Settings) -> str:
    """The model's name in the API: as set, the hub id, or the directory's name."""
    if settings.served_model_name:
        return settings.served_model_name
    if settings.model_id == DEMO:
        return DEMO_NAME
    if _looks_local(settings.model_id):
        return Path(settings.model_id).expanduser().absolute().name
    return settings.model_id


def find_model(settings: Settings, downloading: Callable[[], None]) -> Path:
    """The directory of the model's files, fetched from the hub when it is a hub id.

    Blocking. ``downloading`` is called before the hub is asked. Raises ModelNotUsable.
    """
    if settings.model_id == DEMO:
        return _check_directory(Path(str(files("sluice_worker") / "demo_model")))
    if _looks_local(settings.model_id):
        return _check_directory(Path(settings.model_id).expanduser())
    if not _HUB_ID.fullmatch(settings.model_id):
        raise ModelNotUsable(
            f"MODEL_ID={settings.model_id!r} is neither a directory nor a hub id (org/name)"
        )
    downloading()
    return _fetch(settings)


def _looks_local(model_id: str) -> bool:
    return model_id.startswith(("/", "./", "../", "~")) or Path(model_id).is_dir()


def _check_directory(path: Path) -> Path:
    if not path.is_dir():
        raise ModelNotUsable(f"MODEL_ID={path}: there is no such directory")
    if not (path / "config.json").is_file():
        raise ModelNotUsable(f"MODEL_ID={path}: has no config.json, so it holds no model")
    return path


def _fetch(settings: Settings) -> Path:
    from huggingface_hub import snapshot_download  # it is slow to import, and often not needed

    try:
        path = snapshot_download(
            settings.model_id, revision=settings.model_revision, allow_patterns=HUB_PATTERNS
        )
    except Exception as error:  # the hub client raises many kinds; each ends the load the same way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotUsable(f"cannot fetch MODEL_ID={settings.model_id}: {reason}") from error
    return _check_directory(Path(path))
