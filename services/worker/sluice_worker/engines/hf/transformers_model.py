"""Loads a model as transformers has it, with our linear layers in the place of its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from sluice_worker.engines.hf.invariance import RowCounts
from sluice_worker.engines.hf.linear import Blocked, LinearFactory, LinearModule
from sluice_worker.engines.hf.options import ModelLoadError

log = logging.getLogger(__name__)


class PackedEmbedding(torch.nn.Module):
    """An embedding that may be kept in fewer bits and gives float32."""

    def __init__(self, weight: torch.Tensor) -> None:
        """``weight``: as it is kept."""
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of ``ids``, in float32."""
        return functional.embedding(ids, self.weight).float()


class Activation(torch.nn.Module):
    """An activation function of a model, on parts of the rows as linear layers are."""

    def __init__(self, function: torch.nn.Module, counts: RowCounts) -> None:
        super().__init__()
        self.function = function
        self._blocked = Blocked(function, counts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the function, for ``x`` [..., features]."""
        return self._blocked(x.reshape(-1, x.shape[-1])).view(x.shape)


def load_model(model_dir: Path, config: Any, dtype: Any, *, trust_remote_code: bool) -> Any:
    """The causal language model of ``model_dir``. Raises ModelLoadError."""
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            model_dir,
            config=config,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, ImportError, RuntimeError) as error:
        raise ModelLoadError(
            f"transformers cannot load this {config.model_type} model: {_first_line(error)}",
            "use a decoder-only model that transformers knows, with safetensors weights",
        ) from error
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise ModelLoadError(
            f"the checkpoint lacks {len(missing)} tensors, such as {missing[0]}",
            "download the model again, completely",
        )
    return model.eval()


def pack_model(model: Any, pack: LinearFactory) -> None:
    """Replace linear layers and embeddings one by one, then make the rest float32."""
    from transformers.pytorch_utils import Conv1D

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(parent, name, LinearModule(pack(child.weight.detach(), child.bias)))
            elif type(child) is Conv1D:
                weight = child.weight.detach().t()
                setattr(parent, name, LinearModule(pack(weight, child.bias)))
            elif type(child) is torch.nn.Embedding:
                setattr(parent, name, PackedEmbedding(pack.embedding(child.weight.detach())))
    _make_rest_float(model)


def use_counts(model: Any, counts: RowCounts) -> None:
    """Cut rows as ``counts`` says wherever their number could show in a row's result."""
    from transformers.activations import ACT2CLS

    kinds = {kind[0] if isinstance(kind, tuple) else kind for kind in ACT2CLS.values()}
    for parent in list(model.modules()):
        if isinstance(parent, LinearModule):
            parent.use(counts)
        if isinstance(parent, Activation):
            continue
        for name, child in list(parent.named_children()):
            if type(child) in kinds:
                setattr(parent, name, Activation(child, counts))


def _make_rest_float(model: Any) -> None:
    kept = {id(module.weight) for module in model.modules() if isinstance(module, PackedEmbedding)}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in kept:
            tensor.data = tensor.data.float()


def text_config(config: Any) -> Any:
    """The part of a config that describes the language model."""
    return config.get_text_config(decoder=True)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
