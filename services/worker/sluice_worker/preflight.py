"""``python -m sluice_worker check``: will this model run here? Says so before it is downloaded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sluice_worker.engines import EngineNotAvailable, find_engine
from sluice_worker.engines.hf.machine import free_memory
from sluice_worker.progress import size_text
from sluice_worker.settings import Settings
from sluice_worker.tokenizer_formats import TokenizerMissing, convert, source_of
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub_file import HubFile
from sluice_worker.weights.integrity import check_whole, digest_of
from sluice_worker.weights.selection import weight_names
from sluice_worker.weights.source import HubModel, LocalModel, model_source

#: What a worker needs beside the weights: Python, PyTorch and its buffers. Measured: 0.6 GB.
BASE_BYTES = 600_000_000

#: The least that is worth having for keys and values.
KV_BYTES = 100_000_000

_CONFIG_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")
#: What a tokenizer is converted from, beside the file that has its vocabulary.
_TOKENIZER_FILES = ("added_tokens.json", "special_tokens_map.json", "merges.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check: what was looked at, whether it is well, and what to do if not."""

    subject: str
    verdict: Literal["ok", "warn", "FAIL"]
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.subject:13} {self.text}"


@dataclass(frozen=True, slots=True)
class _Model:
    """What is known of a model without its weights; ``config_dir`` has its small files."""

    files: dict[str, int]
    config_dir: Path

    @property
    def weight_bytes(self) -> int:
        """Of one layout: a directory may hold the same weights in several."""
        try:
            return sum(self.files[name] for name in weight_names(self.files, pickle=True))
        except ModelNotUsable:
            return 0

    def json(self, name: str) -> dict[str, Any]:
        """The object in a file, empty if there is no file. Raises ModelNotUsable."""
        path = self.config_dir / name
        try:
            value = json.loads(path.read_bytes()) if path.is_file() else {}
        except (ValueError, RecursionError) as error:
            raise ModelNotUsable(f"{name} is damaged: it holds no JSON", str(error)) from error
        return value if isinstance(value, dict) else {}


def check(settings: Settings) -> Iterator[Finding]:
    """Look at everything that can be known beforehand. A finding comes as soon as it is there."""
    with tempfile.TemporaryDirectory(prefix="sluice-check-") as folder:
        found: list[_Model] = []
        source = _guarded("model", lambda: model_source(settings))
        if isinstance(source, Finding):
            yield source
            return
        look = _look_local if isinstance(source, LocalModel) else _look_on_hub
        yield from look(source, settings, Path(folder), found)
        for model in found:
            damage = _guarded("config", partial(_read_configs, model))
            if damage:
                yield damage
                return
            yield _engine(settings, model)
            yield _memory(settings, model)
            yield _tokenizer(model)
            yield _template(model)


def _read_configs(model: _Model) -> None:
    for name in _CONFIG_FILES:
        model.json(name)


def _guarded(subject: str, look: Callable[[], Any]) -> Any:
    """What ``look`` returns, or the finding that it cannot be."""
    try:
        return look()
    except (ModelNotUsable, EngineNotAvailable) as error:
        return Finding(subject, "FAIL", str(error))
    except OSError as error:
        return Finding(subject, "FAIL", f"a file cannot be read: {error}")


def _look_local(
    source: LocalModel, settings: Settings, folder: Path, found: list[_Model]
) -> Iterator[Finding]:
    path = source.path
    files = _guarded("model", partial(_model_files, path))
    if isinstance(files, Finding):
        yield files
        return
    yield Finding("model", "ok", f"{path}: {_amount(files)}")

    def look() -> None:
        weight_names(files, pickle=settings.allow_pickle)
        check_whole(path)

    yield _guarded("files", look) or Finding(
        "files", "ok", "no weight file is missing or cut short"
    )
    found.append(_Model(files, path))


def _model_files(path: Path) -> dict[str, int]:
    if not (path / "config.json").is_file():
        raise ModelNotUsable(f"{path}: there is no directory with a config.json")
    return _sizes(path)


def _sizes(folder: Path) -> dict[str, int]:
    return {each.name: each.stat().st_size for each in folder.iterdir() if each.is_file()}


def _look_on_hub(
    source: HubModel, settings: Settings, folder: Path, found: list[_Model]
) -> Iterator[Finding]:
    from sluice_worker.weights.hub import HubError  # the hub's client imports slowly
    from sluice_worker.weights.remote import RemoteModel, cached

    try:
        remote = RemoteModel.look(source, settings)
    except (HubError, ModelNotUsable) as error:
        path = cached(source, settings) if isinstance(error, HubError) else None
        if path is None:
            yield Finding("model", "FAIL", str(error))
        else:  # a worker would start with it
            yield Finding("model", "warn", f"{source.repo_id} is in the cache, but {error}")
            found.append(_Model(_sizes(path), path))
        return
    files = {file.name: file.size for file in remote.files}
    where = f"{source.repo_id} at {remote.commit[:7]} ({remote.revision})"
    yield Finding("model", "ok", f"{where}: {_amount(files)}")
    try:
        for file in remote.files:
            if file.name in _read_first(files):
                (folder / file.name).write_bytes(_verified(file, remote.read(file)))
    except (HubError, ModelNotUsable) as error:
        yield Finding("access", "FAIL", str(error))
        return
    kind = "gated, and the token has access" if remote.gated else "its files can be read"
    yield Finding("access", "ok", kind)
    yield _disk(remote.bytes_missing, remote.bytes_free)
    found.append(_Model(files, folder))


def _read_first(names: Collection[str]) -> set[str]:
    """The small files; without a tokenizer.json, also those that it would be made from."""
    source = None if "tokenizer.json" in names else source_of(names)
    return {*_CONFIG_FILES, *_TEMPLATES, *((source, *_TOKENIZER_FILES) if source else ())}


def _verified(file: HubFile, content: bytes) -> bytes:
    if digest_of([content], len(content), file.digest) != file.digest:
        raise ModelNotUsable(
            f"{file.name} came with other content than the hub announces: "
            "a proxy or mirror in between may be at fault"
        )
    return content


def _disk(missing: int, free: int) -> Finding:
    text = f"{size_text(missing)} are to be downloaded, {size_text(free)} are free"
    if missing > free:
        return Finding("disk", "FAIL", f"{text}: make room, or set HF_HOME to a larger volume")
    return Finding("disk", "ok", text)


def _engine(settings: Settings, model: _Model) -> Finding:
    def look() -> Finding:
        engine = find_engine(settings.engine_name)
        text = engine.check_model(settings, model.config_dir)
        return Finding("architecture", "ok", f"{settings.engine_name} serves it: {text}")

    finding: Finding = _guarded("architecture", look)
    return finding


def _memory(settings: Settings, model: _Model) -> Finding:
    if settings.model_device != "cpu":
        return Finding("memory", "warn", "memory of the device is not checked here")
    needed = int(model.weight_bytes * _growth(settings, model)) + BASE_BYTES + KV_BYTES
    free = free_memory()
    text = f"needs about {size_text(needed)}, {size_text(free)} are free"
    if needed > free:
        mend = "give the worker more memory, or choose a smaller model"
        return Finding("memory", "FAIL", f"{text}: {mend}")
    return Finding("memory", "ok", text)


def _growth(settings: Settings, model: _Model) -> float:
    """Bytes in memory by bytes of weights on disk."""
    config = model.json("config.json")
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if settings.dtype == "auto" or settings.dtype == stored:
        return 1.0
    if settings.dtype == "float32":
        return 2.0
    if settings.dtype == "int8":  # a small model's, whose embedding, kept in 16 bits, weighs most
        return 0.375 if stored == "float32" else 0.75
    return 0.5 if stored == "float32" else 1.0


def _tokenizer(model: _Model) -> Finding:
    if "tokenizer.json" in model.files:
        return Finding("tokenizer", "ok", "tokenizer.json")

    def look() -> Finding:
        try:
            convert(model.config_dir)
        except TokenizerMissing as error:
            return Finding("tokenizer", "FAIL", str(error))
        text = f"no tokenizer.json; it is made from {source_of(model.files)} when the model loads"
        return Finding("tokenizer", "ok", text)

    finding: Finding = _guarded("tokenizer", look)
    return finding


def _template(model: _Model) -> Finding:
    if model.json("tokenizer_config.json").get("chat_template"):
        return Finding("chat template", "ok", "in tokenizer_config.json")
    if present := [name for name in _TEMPLATES if name in model.files]:
        return Finding("chat template", "ok", present[0])
    return Finding(
        "chat template",
        "warn",
        "there is none: /v1/completions works, /v1/chat/completions will be refused",
    )


def _amount(files: dict[str, int]) -> str:
    return f"{len(files)} files, {size_text(sum(files.values()))}"
