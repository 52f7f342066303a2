"""The folder in which vLLM's processes tell the worker how a load goes: a file for each of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

#: Names the folder, for the processes that vLLM starts.
FOLDER_VARIABLE = "SLUICE_VLLM_LOAD"

_PREFIX = "sluice-vllm-"


def own_file(suffix: str) -> Path | None:
    """The file of a kind that is this process's; None if no worker is loading."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) / f"{os.getpid()}{suffix}" if folder else None


class LoadFolder:
    """The folder of one load. A context manager: processes started within it find it.

    A worker that ends while it loads leaves its folder; the next one takes it away.
    """

    path: Path

    def __enter__(self) -> Self:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        os.environ[FOLDER_VARIABLE] = str(self.path)
        return self

    def __exit__(self, *exit_details: object) -> None:
        del os.environ[FOLDER_VARIABLE]
        shutil.rmtree(self.path, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what workers left that are gone."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if not owner.isdigit() or int(owner) == os.getpid() or not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
