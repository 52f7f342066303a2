"""From MODEL_ID to a directory with the model's files."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.integrity import check_whole
from sluice_worker.weights.options import DownloadOptions
from sluice_worker.weights.report import LoadReport

DEMO = "demo"
DEMO_NAME = "sluice-demo"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
#: As git has its names, with no way out of a folder.
_REVISION = re.compile(r"(?!.*\.\.)[\w][\w./+-]*")
_MOUNTED = "pvc://"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A directory that is there already."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository on the hub; ``revision`` is a branch, a tag or a commit."""

    repo_id: str
    revision: str | None


def model_source(settings: Settings) -> LocalModel | HubModel:
    """Where MODEL_ID says that the model is. Raises ModelNotUsable."""
    model_id = settings.model_id
    if model_id == DEMO:
        return LocalModel(Path(str(files("sluice_worker") / "demo_model")))
    if model_id.startswith(_MOUNTED):
        return LocalModel(Path(settings.models_dir) / _mounted(model_id))
    if _looks_local(model_id):
        return LocalModel(_expanded(model_id))
    if not (_HUB_ID.fullmatch(model_id) and _is_hub_id(model_id)):
        raise ModelNotUsable(
            f"MODEL_ID={model_id!r} is neither a directory nor a hub id (org/name)"
        )
    if settings.model_revision and not _REVISION.fullmatch(settings.model_revision):
        raise ModelNotUsable(
            f"MODEL_REVISION={settings.model_revision!r} is no branch, tag or commit"
        )
    return HubModel(model_id, settings.model_revision)


def served_name(settings: Settings) -> str:
    """The model's name in the API: as set, the hub id, or the directory's name."""
    if settings.served_model_name:
        return settings.served_model_name
    if settings.model_id == DEMO:
        return DEMO_NAME
    if _looks_local(settings.model_id) or settings.model_id.startswith(_MOUNTED):
        path = settings.model_id.removeprefix(_MOUNTED)
        return _expanded(path).absolute().name
    return settings.model_id


def find_model(
    settings: Settings,
    report: LoadReport,
    stop: threading.Event,
    inspect: Callable[[Path], object] | None = None,
) -> Path:
    """The directory of the model's files, downloaded when it is a hub id.

    Blocking, for hours if need be. ``inspect`` may refuse a model by its config files, before its
    weights are downloaded. Raises ModelNotUsable, and Stopped when ``stop`` is set.
    """
    source = model_source(settings)
    if isinstance(source, HubModel):
        from sluice_worker.weights.download import Download  # the hub's client imports slowly

        options = download_options(settings)
        return Download(source.repo_id, source.revision, options, report, stop, inspect).run()
    return local_directory(source, report)


def local_directory(source: LocalModel, report: LoadReport) -> Path:
    """The model's directory, looked at closely. Raises ModelNotUsable."""
    path = source.path
    try:
        if not path.is_dir():
            raise ModelNotUsable(f"there is no directory {path.name}: check MODEL_ID", str(path))
        if not (path / "config.json").is_file():
            raise ModelNotUsable(
                f"the directory {path.name} has no config.json, so it holds no model: "
                "check MODEL_ID",
                str(path),
            )
        report.state(pb.WORKER_STATE_VERIFYING)
        check_whole(path)
    except OSError as error:
        raise ModelNotUsable(
            f"the files in {path.name} cannot be read ({error.strerror}): check the directory",
            str(error),
        ) from error
    return path


def download_options(settings: Settings) -> DownloadOptions:
    """How the settings want models to be fetched."""
    return DownloadOptions(
        stall_seconds=settings.download_stall_seconds,
        connections=settings.download_connections,
        pickle=settings.allow_pickle,
        code=settings.trust_remote_code,
    )


def _mounted(model_id: str) -> Path:
    """``CLAIM/PATH`` of ``pvc://CLAIM/PATH``."""
    path = Path(model_id.removeprefix(_MOUNTED))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ModelNotUsable(f"MODEL_ID={model_id!r} is not of the form pvc://CLAIM/PATH")
    return path


def _looks_local(model_id: str) -> bool:
    if model_id.startswith(("/", "./", "../", "~")):
        return True
    try:
        return Path(model_id).is_dir()
    except OSError:  # too long for a name, say
        return False


def _expanded(path: str) -> Path:
    """The path with ``~`` expanded, if there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _is_hub_id(model_id: str) -> bool:
    from huggingface_hub.errors import HFValidationError  # the hub's client imports slowly
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(model_id)
    except HFValidationError:
        return False
    return True
