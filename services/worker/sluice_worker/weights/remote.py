"""A model on the hub, looked at without being downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from sluice_worker.settings import Settings
from sluice_worker.weights.cache import SPARE_BYTES, RepoCache
from sluice_worker.weights.hub import HubRepo
from sluice_worker.weights.hub_file import HubFile
from sluice_worker.weights.selection import select
from sluice_worker.weights.source import HubModel, download_options

READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """What would be downloaded: the files needed, of one commit."""

    repo: HubRepo
    commit: str
    files: tuple[HubFile, ...]
    gated: bool
    bytes_missing: int
    bytes_free: int

    @classmethod
    def look(cls, source: HubModel, settings: Settings) -> RemoteModel:
        """Ask the hub. Raises HubError, ModelNotUsable for what holds no model."""
        repo = HubRepo(source.repo_id, source.revision, READ_SECONDS)
        listing = repo.listing()
        options = download_options(settings)
        files = select(listing.files, pickle=options.pickle, code=options.code)
        cache = RepoCache(source.repo_id)
        missing = cache.bytes_missing(listing.commit, files)
        free = max(0, cache.free_bytes() - SPARE_BYTES)
        return cls(repo, listing.commit, tuple(files), listing.gated, missing, free)

    @property
    def revision(self) -> str:
        """The branch, tag or commit that was asked for."""
        return self.repo.revision

    def read(self, file: HubFile) -> bytes:
        """A small file's content, not verified. Raises HubError."""
        return self.repo.read(file, self.commit)


def cached(source: HubModel, settings: Settings) -> Path | None:
    """The snapshot of an earlier download that is wholly there; it is not verified again."""
    cache = RepoCache(source.repo_id)
    commit = cache.commit_of(source.revision or constants.DEFAULT_REVISION)
    files = cache.complete(commit, download_options(settings).variant) if commit else None
    if not (commit and files and all(cache.stored(commit, file) for file in files)):
        return None
    return cache.snapshot(commit)
