"""A model's place in the hub's cache, in the layout that huggingface_hub's own tools read.

Beside its ``blobs``, ``refs`` and ``snapshots`` there is a folder ``.sluice``:

- ``partial/DIGEST.HOLDER``: a file on its way, of the process that HOLDER names;
- ``verified/DIGEST.json``: the size and time of change that a file had when its hash was right;
- ``complete/COMMIT.json``: written last; the files of a commit, all of them verified;
- ``lease``: who downloads (lease.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from sluice_worker.weights.hub_file import HubFile, Listing

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORMAT = 1

#: What nobody has written to for so long belongs to no process any more.
LEFT_OVER_SECONDS = 86_400.0

#: Space that is left free beside the model, for records and the file system's own needs.
SPARE_BYTES = 1 << 20

Stamp: TypeAlias = dict[str, int]


class RepoCache:
    """The files of one repository on this volume. Every change is atomic and can be repeated."""

    def __init__(self, repo_id: str, root: Path | None = None) -> None:
        base = root or Path(constants.HF_HUB_CACHE)
        self.root = base.expanduser() / repo_folder_name(repo_id=repo_id, repo_type="model")
        self.lease_path = self.root / ".sluice" / "lease"

    def snapshot(self, commit: str) -> Path:
        """The directory in which a commit's files have their own names."""
        return self.root / "snapshots" / commit

    def prepare(self, commit: str) -> None:
        """Make the folders. Raises OSError on a volume that cannot be written."""
        folders = ("blobs", "refs", f"snapshots/{commit}", *_OWN_FOLDERS)
        for folder in folders:
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    # Revisions

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or tag was at when it was last asked for."""
        if _COMMIT.fullmatch(revision):
            return revision
        path = self.root / "refs" / revision
        commit = path.read_text(errors="replace").strip() if path.is_file() else ""
        return commit if _COMMIT.fullmatch(commit) else None

    def note_commit(self, revision: str, commit: str) -> None:
        """Remember the commit that a branch or tag is at."""
        if revision != commit and self.commit_of(revision) != commit:
            _write(self.root / "refs" / revision, commit.encode())

    # Files

    def stored(self, commit: str, file: HubFile) -> Path | None:
        """Where the whole file is, if it is there: under its own name, or as a blob."""
        for path in (self.snapshot(commit) / file.name, self._blob(file)):
            with contextlib.suppress(OSError):
                if path.stat().st_size == file.size:
                    return path
        return None

    def is_verified(self, file: HubFile, stamp: Stamp) -> bool:
        """Whether the file of this stamp was verified and has not been written to since."""
        return bool(_read(self._record(file)) == stamp)

    def note_verified(self, commit: str, file: HubFile, path: Path, stamp: Stamp) -> None:
        """The hash of the file that had ``stamp`` was right: note that, and name it."""
        pointer = self.snapshot(commit) / file.name
        if path != pointer:
            _link(path, pointer)
        if not self.is_verified(file, stamp):
            _write(self._record(file), json.dumps(stamp).encode())

    def publish(self, partial: Path, commit: str, file: HubFile, stamp: Stamp) -> None:
        """Make a partial file, verified when it had ``stamp``, a blob with its name."""
        _sync(partial)
        blob = self._blob(file)
        partial.replace(blob)
        with contextlib.suppress(OSError):  # not every file system can sync a directory
            _sync(blob.parent)
        self.note_verified(commit, file, blob, stamp)

    def discard(self, commit: str, file: HubFile, path: Path, stamp: Stamp) -> None:
        """Remove a file that had ``stamp`` when its content was wrong.

        Not what another process has put in its place since.
        """
        if stamp_of(path) == stamp:
            for wrong in (self._record(file), self.snapshot(commit) / file.name, self._blob(file)):
                wrong.unlink(missing_ok=True)

    def discard_partials(self, file: HubFile) -> None:
        """Remove what there is of a file on its way: its content was wrong."""
        for partial in (self.root / ".sluice" / "partial").glob(f"{file.digest}.*"):
            partial.unlink(missing_ok=True)

    def claim_partial(self, file: HubFile, holder: str) -> Path:
        """The partial file to go on with: what a process before this one left, if any.

        Taken by renaming, so that two processes never go on with the same one. Whose partial
        file was taken notices by FileNotFoundError.
        """
        mine = self.root / ".sluice" / "partial" / f"{file.digest}.{holder}"
        others = sorted(mine.parent.glob(f"{file.digest}.*"), key=_size, reverse=True)
        for path in others:
            if path == mine:
                break
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                path.rename(mine)
                break
        mine.touch()
        return mine

    def partial_bytes(self, file: HubFile) -> int:
        """How much of a file on its way is there."""
        folder = self.root / ".sluice" / "partial"
        return min(file.size, max(map(_size, folder.glob(f"{file.digest}.*")), default=0))

    def bytes_there(self, commit: str, file: HubFile) -> int:
        """How much of a file is there, whole or on its way."""
        return file.size if self.stored(commit, file) else self.partial_bytes(file)

    def bytes_missing(self, commit: str, files: Iterable[HubFile]) -> int:
        """How much is still to be fetched; the same content under several names is so once."""
        blobs = {file.digest: file for file in files}.values()
        return sum(file.size - self.bytes_there(commit, file) for file in blobs)

    def _blob(self, file: HubFile) -> Path:
        return self.root / "blobs" / file.digest

    def _record(self, file: HubFile) -> Path:
        return self.root / ".sluice" / "verified" / f"{file.digest}.json"

    # Commits

    def complete(self, commit: str, variant: str) -> list[HubFile] | None:
        """The files of a commit that was wholly verified; None if it was not."""
        record = _read(self._completion(commit, variant))
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            return None
        return [HubFile(**fields) for fields in record["files"]]

    def note_complete(self, commit: str, variant: str, files: Iterable[HubFile]) -> None:
        """All of ``files`` are verified: write that down, last of all, and tidy up."""
        record = {"format": _FORMAT, "files": [asdict(file) for file in files]}
        path = self._completion(commit, variant)
        if _read(path) != record:
            _write(path, json.dumps(record, indent=1).encode())
        for file in files:
            self.discard_partials(file)
        self._discard_leftovers()

    def _discard_leftovers(self) -> None:
        """Remove what processes left that were killed long ago, of other commits too."""
        own = self.root / ".sluice"
        for path in (*own.glob("partial/*"), *own.glob(".*"), *own.glob("*/.*")):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                    path.unlink()

    def found(self, commit: str) -> Listing | None:
        """The files of a snapshot that another tool made, by the hashes that name their blobs.

        None where they have none: then they cannot be verified.
        """
        files = []
        folder = self.snapshot(commit)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            digest = path.resolve().name
            if path.is_symlink() and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest):
                files.append(HubFile(path.name, _size(path), digest))
        return Listing(commit, tuple(files)) if files else None

    def free_bytes(self) -> int:
        """Free space on the volume."""
        folder = next(path for path in (self.root, *self.root.parents) if path.exists())
        return shutil.disk_usage(folder).free

    def _completion(self, commit: str, variant: str) -> Path:
        return self.root / ".sluice" / "complete" / f"{commit}{variant}.json"


_OWN_FOLDERS = (".sluice/partial", ".sluice/verified", ".sluice/complete")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def stamp_of(path: Path) -> Stamp:
    """What tells a file from the same one after it was written to."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _link(blob: Path, pointer: Path) -> None:
    """Name the blob in its snapshot; where there are no symbolic links, move it there."""
    target = os.path.relpath(blob, pointer.parent)
    if pointer.is_symlink() and pointer.readlink() == Path(target):
        return
    staged = pointer.with_name(f".{pointer.name}.{secrets.token_hex(4)}")
    try:
        staged.symlink_to(target)
    except OSError:
        blob.replace(pointer)
    else:
        staged.replace(pointer)


def _read(path: Path) -> Any:
    """The JSON in a file; None if there is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or nothing of it, also when the machine stops in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    staged.write_bytes(data)
    _sync(staged)
    staged.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
