"""Which files of a repository an engine needs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sluice_worker.tokenizer_formats.names import source_of
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub_file import HubFile

#: Beside the weights: configuration, tokenizer, template.
_SMALL = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.json|vocab\.txt|merges\.txt"
    r"|tokenizer\.model|chat_template\.(json|jinja)"
)
#: A name with a dot in its stem is a variant (``model.fp16.safetensors``), but for
#: ``model.safetensors-00001-of-00002.safetensors``; ``consolidated`` or ``adapter`` files hold
#: the weights in other layouts.
_SHARD = re.compile(r"(?!consolidated|adapter)[\w-]+(\.safetensors-\d+-of-\d+)?\.safetensors")
_PICKLED_SHARD = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")

_SAFETENSORS = "model.safetensors"
_PICKLE = "pytorch_model.bin"


def select(files: Iterable[HubFile], *, pickle: bool, code: bool) -> list[HubFile]:
    """The files to fetch, of the repository's root only.

    ``pickle`` allows pickled weights where there are no others, ``code`` takes the Python
    files along. Raises ModelNotUsable when there is no config or there are no weights.
    """
    by_name = {file.name: file for file in files}
    if "config.json" not in by_name:
        raise ModelNotUsable("the repository has no config.json, so it holds no model to serve")
    chosen = [name for name in by_name if _SMALL.fullmatch(name)]
    if "tokenizer.json" not in by_name and (source := source_of(by_name)):
        chosen.append(source)
    chosen += weight_names(by_name, pickle=pickle)
    if code:
        chosen += [name for name in by_name if name.endswith(".py")]
    return [by_name[name] for name in sorted(set(chosen))]


def weight_names(names: Iterable[str], *, pickle: bool) -> list[str]:
    """Those of the files that hold the weights, in one layout. Raises ModelNotUsable."""
    names = list(names)
    if _SAFETENSORS in names:
        return [_SAFETENSORS]
    if f"{_SAFETENSORS}.index.json" in names:
        return [f"{_SAFETENSORS}.index.json", *filter(_SHARD.fullmatch, names)]
    pickled = _pickled(names)
    if pickled and pickle:
        return pickled
    if pickled:
        raise pickle_refused()
    raise ModelNotUsable("there are no weights in safetensors: choose another model")


def pickle_refused() -> ModelNotUsable:
    """Why pickled weights are not taken, and what to do."""
    return ModelNotUsable(
        "the model has pickled weights only, and a pickle can run code: choose a model with "
        "safetensors, or trust this one's author and set ALLOW_PICKLE=true"
    )


def _pickled(names: list[str]) -> list[str]:
    index = f"{_PICKLE}.index.json"
    if _PICKLE in names:
        return [_PICKLE]
    return [index, *filter(_PICKLED_SHARD.fullmatch, names)] if index in names else []
