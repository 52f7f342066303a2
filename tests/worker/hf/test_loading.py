"""What loads, what is refused with a clear message, and what a model is said to be."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sluice_kernels
import torch
from sluice_worker.engines.hf import HfOptions, ModelLoadError, linear, load
from sluice_worker.engines.hf.engine import HfEngine
from sluice_worker.engines.hf.native_draws import NativeDraws
from transformers import AutoModelForCausalLM

from tests.worker.hf import models
from tests.worker.hf.conftest import Zoo, needs_bfloat16
from tests.worker.hf.driver import Stepper, request


def load_from(path: Path, **options: Any) -> HfEngine:
    values = {"num_threads": 1, "batch_max": 2, **options}
    return load(HfOptions(path, **values), lambda *news: None)


@pytest.fixture
def copy(zoo: Zoo, tmp_path: Path) -> Any:
    """A saved model of one's own, with config fields changed."""

    def make(kind: str = "llama", **config: Any) -> Path:
        path = tmp_path / "model"
        shutil.copytree(zoo.path(kind), path)
        file = path / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return path

    return make


def test_progress_and_what_is_known_of_the_model(copy: Any) -> None:
    path = copy()
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 7]}))
    told: list[tuple[str, int, int]] = []
    options = HfOptions(path, num_threads=1, batch_max=3)
    engine = load(options, lambda *news: told.append(news))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["loading", "warming"]
    read = [(done, total) for stage, done, total in told if stage == "loading" and total]
    assert [done for done, _ in read] == sorted({done for done, _ in read})
    assert read[-1][0] == read[-1][1]
    model = engine.model
    assert (model.vocab_size, model.max_model_len, model.batch_max) == (256, 512, 3)
    assert model.eos_token_ids == (0, 7)
    engine.close()


@pytest.mark.parametrize("kernels", ["fastest", "none"])
def test_models_of_other_paths_draw_by_the_kernels_too_and_their_fingerprint_tells(
    kernels: str, zoo: Zoo
) -> None:
    engine = load_from(zoo.path("gpt2"), kernels=kernels)
    other = load_from(zoo.path("gpt2"), kernels="none")
    assert engine.path == "packed"
    by_kernels = isinstance(engine._draw, NativeDraws)
    assert by_kernels == (kernels != "none" and has_kernels())
    assert (engine.model.fingerprint != other.model.fingerprint) == by_kernels
    engine.close()
    other.close()


def has_kernels() -> bool:
    try:
        sluice_kernels.fastest()
    except LookupError:
        return False
    return True


def test_the_package_does_not_import_torch_before_load() -> None:
    code = "import sys, sluice_worker.engines.hf; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "does not generate text"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"model_type": "no-such-model"}, "cannot read the model's config"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_cause(
    config: dict[str, Any], cause: str, copy: Any
) -> None:
    with pytest.raises(ModelLoadError, match=cause) as refused:
        load_from(copy(**config))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("config", ["{", "[]", '{"auto_map": {"AutoConfig": "x.Y"}}'])
def test_a_refusal_is_one_line_that_names_no_path(copy: Any, config: str) -> None:
    path = copy()
    (path / "config.json").write_text(config)
    with pytest.raises(ModelLoadError, match="transformers cannot read") as caught:
        load_from(path)
    assert path.name in str(caught.value) or "config.json" in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_paths_in_a_refusal_only_the_last_names_stay() -> None:
    cause = "use org/name, 9 tokens/s and https://hub/models/name"
    assert str(ModelLoadError(cause)) == cause
    assert str(ModelLoadError("no '/a/b c/d.json',\nno /e.")) == "no 'b c/d.json', no e."


def test_damaged_and_missing_weights_are_refused(copy: Any) -> None:
    path = copy()
    weights = path / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"\xff" * 100, whole[:8] + b"x" * 500):
        weights.write_bytes(broken)
        with pytest.raises(ModelLoadError, match="damaged"):
            load_from(path)
    weights.unlink()
    with pytest.raises(ModelLoadError, match="no safetensors"):
        load_from(path)
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadError, match=r"model-1\.safetensors"):
        load_from(path)
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load_from(path.parent / "nothing")


def test_a_left_over_index_beside_a_whole_checkpoint_is_not_read(copy: Any) -> None:
    path = copy()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00009.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    load_from(path).close()


def test_a_checkpoint_without_a_layer_is_refused(copy: Any) -> None:
    for config in ({"num_hidden_layers": 3}, {"num_hidden_layers": 3, "hidden_act": "gelu"}):
        path = copy(**config)
        with pytest.raises(ModelLoadError, match=r"lacks|has no tensor"):
            load_from(path)
        shutil.rmtree(path)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"dtype": "int4"}, "int4"),
        ({"batch_max": 0}, "batch_max"),
        ({"max_model_len": 600}, "512"),
        ({"kv_cache_bytes": 1000}, "KV_CACHE_BYTES"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    options: dict[str, Any], cause: str, zoo: Zoo
) -> None:
    with pytest.raises(ModelLoadError, match=cause):
        load_from(zoo.path("llama"), **options)


def test_the_thread_that_loads_ends_and_takes_its_openmp_team_with_it(zoo: Zoo) -> None:
    loaders = []
    options = HfOptions(zoo.path("llama"), dtype="float32", num_threads=1)
    engine = load(options, lambda *news: loaders.append(threading.current_thread()))
    engine.close()
    assert loaders
    assert all(
        thread is not threading.current_thread() and not thread.is_alive() for thread in loaders
    )


def test_bfloat16_is_refused_where_it_would_be_slow(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(ModelLoadError, match=r"no AVX-512 instructions for bfloat16; set DTYPE"):
        load_from(zoo.path("llama"), dtype="bfloat16", kernels="none")


def test_int8_is_refused_where_its_products_would_not_be_exact(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "is_exact", lambda: False)
    with pytest.raises(ModelLoadError, match=r"no instructions for products of 8 bits .*DTYPE"):
        load_from(zoo.path("llama"), dtype="int8", kernels="none")


@needs_bfloat16
def test_bfloat16_is_refused_where_rounding_would_hide_an_error(zoo: Zoo) -> None:
    with pytest.raises(ModelLoadError, match="set DTYPE to auto"):
        load_from(zoo.path("gpt2"), dtype="bfloat16")


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_auto_keeps_16_bit_checkpoints_in_float16(
    stored: torch.dtype, kind: str, tmp_path: Path
) -> None:
    model = models.build(kind).to(stored)
    engine = load_from(models.save(model, tmp_path), batch_max=4)
    halves = stored is not torch.float32
    assert ("fp16" in engine.model.fingerprint) == halves
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    reference = models.Reference(models.round_to_half(model) if halves else model)
    stepper = Stepper(engine)
    prompts = models.prompts(4, 40, 80)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row))
    results = stepper.run()
    for row, prompt in enumerate(prompts):
        assert results.tokens[row] == reference.greedy(prompt, 24)


def test_weights_beyond_float16_are_kept_in_float32_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = models.build("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e5
    path = models.save(model.to(torch.bfloat16), tmp_path)
    with pytest.raises(ModelLoadError, match="too large for float16"):
        load_from(path, dtype="float16")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 0.0
        model.model.embed_tokens.weight[0, 0] = 1e5
    with pytest.raises(ModelLoadError, match="too large for float16"):
        load_from(models.save(model, tmp_path / "embedding"), dtype="float16")
    with caplog.at_level(logging.WARNING):
        engine = load_from(path)
    assert "too large for float16" in caplog.text
    assert "fp32" in engine.model.fingerprint
    engine.close()


def test_the_fingerprint_changes_with_what_is_computed(copy: Any) -> None:
    path = copy()

    def prints(**options: Any) -> str:
        engine = load_from(path, **options)
        engine.close()
        return engine.model.fingerprint

    first = prints()
    assert prints() == first
    assert prints(batch_max=5, queue_max=9) == first
    seen = {first, prints(dtype="float16")}
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    seen.add(prints())
    weights = bytearray((path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "model.safetensors").write_bytes(weights)
    seen.add(prints())
    assert len(seen) == 4


def test_a_small_kv_cache_lowers_the_context_length_and_says_so(
    zoo: Zoo, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = load_from(zoo.path("llama"), kv_cache_bytes=3 * 32 * 1024)
    assert engine.model.max_model_len < 512
    assert "lowered" in caplog.text
    engine.close()
