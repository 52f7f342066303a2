"""From LORA_MODULES to directories with adapters' files."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.lifecycle import State
from sluice_worker.progress import Progress
from sluice_worker.settings import Settings
from sluice_worker.weights.adapter_files import CONFIG, WEIGHTS
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.integrity import check_whole
from sluice_worker.weights.report import LoadReport
from sluice_worker.weights.source import HubModel, download_options, model_source, served_name

_REVISION_MARK = "@"


def find_adapters(settings: Settings, report: LoadReport, stop: threading.Event) -> dict[str, Path]:
    """The directory of each adapter by its name, downloaded when it is a hub id.

    Blocking. Raises ModelNotUsable that names the adapter, and Stopped when ``stop`` is set.
    """
    own = served_name(settings)
    if own in settings.adapter_names:
        raise ModelNotUsable(f"LORA_MODULES: {own} is the model's own name; choose another one")
    return {
        name: _find(name, source, settings, _AdapterReport(report), stop)
        for name, source in settings.lora_modules
    }


def _find(
    name: str, source: str, settings: Settings, report: LoadReport, stop: threading.Event
) -> Path:
    repo_id, _, revision = source.partition(_REVISION_MARK)
    asked = settings.model_copy(update={"model_id": repo_id, "model_revision": revision or None})
    try:
        found = model_source(asked)
        if isinstance(found, HubModel):
            from sluice_worker.weights.download import Download  # the hub's client imports slowly

            options = replace(download_options(asked), adapter=True)
            return Download(found.repo_id, found.revision, options, report, stop).run()
        return _local(found.path, report)
    except ModelNotUsable as error:
        reason = re.sub(r"\bMODEL_(ID|REVISION)\b", "LORA_MODULES", str(error))
        raise ModelNotUsable(f"the adapter {name}: {reason}", error.detail) from error


def _local(path: Path, report: LoadReport) -> Path:
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise ModelNotUsable(
                f"the directory {path.name} has no {name}: check LORA_MODULES", str(path)
            )
    report.state(pb.WORKER_STATE_VERIFYING)
    check_whole(path)
    return path


class _AdapterReport:
    """Passes on what is told, but for the state that a model on its way is past already."""

    def __init__(self, report: LoadReport) -> None:
        self._report = report

    def state(self, state: State) -> None:
        """See LoadReport."""
        if state != pb.WORKER_STATE_RESOLVING:
            self._report.state(state)

    def progress(self, progress: Progress) -> None:
        """See LoadReport."""
        self._report.progress(progress)

    def note(self, message: str) -> None:
        """See LoadReport."""
        self._report.note(message)
