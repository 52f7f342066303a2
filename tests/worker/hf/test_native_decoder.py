"""The compiled kernels: what they compute, and where they are not used."""

from __future__ import annotations

import gc
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluice_kernels
import torch
from sluice_worker.engines.hf import HfOptions, load, paths
from sluice_worker.engines.hf.batch import Runner, Span
from sluice_worker.engines.hf.engine import HfEngine
from sluice_worker.engines.hf.options import ModelLoadError
from transformers import LlamaConfig, LlamaForCausalLM

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo, skip_without_kernels
from tests.worker.hf.driver import Stepper

#: Shapes with rests everywhere: panels have 16 outputs, vectors 8 numbers, attention 4 queries.
ODD = {
    "rests": {"hidden_size": 44, "intermediate_size": 37, "vocab_size": 101, "head_dim": 8},
    "one head": {"hidden_size": 24, "num_attention_heads": 1, "num_key_value_heads": 1},
    "groups of five": {
        "hidden_size": 40,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "head_dim": 24,
    },
    "vocabulary": {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 200},
    "biases": {"attention_bias": True, "mlp_bias": True, "head_dim": 16, "intermediate_size": 41},
}


def odd_model(kind: str) -> Any:
    torch.manual_seed(0)
    config = {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config |= {"vocab_size": 160, "intermediate_size": 96, "num_hidden_layers": 2} | ODD[kind]
    model = LlamaForCausalLM(LlamaConfig(max_position_embeddings=1024, **config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
            elif parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    return model


@pytest.fixture(params=sluice_kernels.INSTRUCTION_SETS)
def instructions(request: pytest.FixtureRequest) -> str:
    """Each instruction set that the machine has."""
    name: str = request.param
    skip_without_kernels(name)
    return name


@pytest.fixture
def loaded() -> Iterator[Any]:
    engines: list[HfEngine] = []

    def of(path: Path, **options: Any) -> Runner:
        given = {"dtype": "float32", "num_threads": 2, "batch_max": 40, **options}
        engines.append(load(HfOptions(path, **given), lambda *news: None))
        return Stepper(engines[-1]).runner

    yield of
    for engine in engines:
        engine.close()


def prompt_of(length: int, vocab: int) -> list[int]:
    return torch.randint(vocab, (length,), generator=torch.Generator().manual_seed(1)).tolist()


def tiles(slot: int, prompt: list[int]) -> list[Span]:
    starts = range(0, len(prompt), 64)
    return [Span(slot, at, prompt[at : at + 64], False, True, True) for at in starts]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_shapes_that_leave_rests_are_computed_as_transformers_does(
    threads: int, kind: str, instructions: str, loaded: Any, tmp_path: Path
) -> None:
    model = odd_model(kind)
    runner = loaded(models.save(model, tmp_path), num_threads=threads, kernels=instructions)
    assert runner.name == "native"
    prompt = prompt_of(150, model.config.vocab_size)
    with torch.inference_mode():
        got = runner.forward(tiles(3, prompt))
        expected = model(torch.tensor([prompt])).logits[0]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_a_long_prompt_is_computed_as_torch_does(instructions: str, zoo: Zoo, loaded: Any) -> None:
    prompt = prompt_of(480, 96)
    logits = []
    for kernels in (instructions, "none"):
        runner = loaded(zoo.path("llama-group4"), kernels=kernels)
        with torch.inference_mode():
            logits.append(torch.cat([runner.forward([tile]) for tile in tiles(1, prompt)]))
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("kind", ["llama", "llama-group4", "qwen3"])
def test_a_token_has_the_same_bits_prefilled_and_generated(
    kind: str, dtype: str, instructions: str, engine_of: Loader
) -> None:
    """However its prompt is cut, too, and whatever is beside it."""
    engine = engine_of(kind, dtype=dtype, batch_max=9, num_threads=2, kernels=instructions)
    runner = Stepper(engine).runner
    prompt = prompt_of(200, 96)
    with torch.inference_mode():
        at_once = runner.forward([Span(0, 0, prompt, False, True, True)])
        in_tiles = runner.forward([*tiles(1, prompt), Span(2, 0, prompt[:9], False, False)])
        one_by_one = torch.cat(
            [runner.forward([Span(3, at, [prompt[at]], True, True)]) for at in range(len(prompt))]
        )
        for slot in range(4):
            runner.release(slot)
    assert torch.equal(in_tiles, at_once)
    assert torch.equal(one_by_one, at_once)


#: Rows of a step beside a prompt's tokens: every size of a tile, alone and behind another.
COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 23, 24, 25, 37)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("kind", list(ODD))
def test_all_instructions_compute_the_same_bits(
    kind: str, dtype: str, loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing of a model changes with the machine that it comes to."""
    monkeypatch.setattr(paths, "has_bfloat16", lambda: False)
    path = models.save(odd_model(kind), tmp_path)
    prompt = prompt_of(150, 96)
    results: dict[str, list[torch.Tensor]] = {}
    for name in sluice_kernels.INSTRUCTION_SETS:
        skip_without_kernels(name)
        runner = loaded(path, kernels=name, dtype=dtype)
        assert runner.name == "native"
        with torch.inference_mode():
            got = [runner.forward(tiles(slot, prompt[: 70 + slot])) for slot in range(40)]
            for count in COUNTS:
                rows = [Span(slot, 70 + slot, [slot + 1], True, True) for slot in range(count)]
                got.append(runner.forward(rows))
        results[name] = got
    first, *others = results.values()
    for other in others:
        assert all(map(torch.equal, first, other))


def test_the_number_of_threads_changes_no_bit(zoo: Zoo, loaded: Any) -> None:
    prompt = prompt_of(100, 96)
    results = []
    for threads in (1, 2, 5):
        runner = loaded(zoo.path("qwen3"), num_threads=threads)
        with torch.inference_mode():
            results.append(runner.forward(tiles(0, prompt)))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_row_that_is_not_a_number_stays_alone(instructions: str, engine_of: Loader) -> None:
    runner = Stepper(engine_of("llama", batch_max=4, kernels=instructions)).runner
    prompt = prompt_of(40, 96)
    spans = [Span(slot, 40, [7], True, True) for slot in range(3)]
    with torch.inference_mode():
        for slot in range(3):
            runner.forward([Span(slot, 0, prompt, False, False)])
        sound = runner.forward(spans)
        runner.cache._grid[1, ..., 5, :] = float("nan")  # type: ignore[attr-defined]
        got = runner.forward(spans)
        for slot in range(3):
            runner.release(slot)
    assert got[1].isnan().all()
    assert torch.equal(got[[0, 2]], sound[[0, 2]])


def test_where_the_cpu_lacks_an_instruction_torch_computes_and_the_log_says_so(
    zoo: Zoo, loaded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sluice_kernels, "_cpu_flags", lambda: ["sse2", "fma"])
    caplog.set_level(logging.INFO)
    assert loaded(zoo.path("llama")).name == "decoder"
    assert "no compiled kernels: this CPU has no avx2, f16c" in caplog.text


def test_where_the_cpu_has_no_avx512_the_kernels_use_avx2(
    zoo: Zoo, loaded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    skip_without_kernels()
    monkeypatch.setattr(sluice_kernels, "_cpu_flags", lambda: ["avx2", "fma", "f16c", "avx512f"])
    caplog.set_level(logging.INFO)
    assert loaded(zoo.path("llama")).name == "native"
    assert "compiled kernels: avx2" in caplog.text
    assert loaded(zoo.path("llama"), kernels="avx512").name == "decoder"
    assert "this CPU has no avx512_vbmi2, avx512bw, avx512dq, avx512vl" in caplog.text


def test_a_pool_that_cannot_be_had_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a complaint of what ends it, which would be an error here."""
    monkeypatch.setattr(sluice_kernels, "_cpu_flags", list)
    for name in (*sluice_kernels.INSTRUCTION_SETS, "sse9"):
        with pytest.raises(LookupError, match=r"this CPU has no|they are not for sse9|not built"):
            sluice_kernels.Pool(name, 2)
        gc.collect()


def test_kernels_that_do_not_exist_are_refused_by_name(zoo: Zoo) -> None:
    with pytest.raises(ModelLoadError, match=r"no kernels 'avx9'; use one of fastest, avx512"):
        HfOptions(zoo.path("llama"), kernels="avx9")


def test_a_closed_pool_has_no_threads_left(instructions: str) -> None:
    def threads() -> set[str]:
        return {task.name for task in Path("/proc/self/task").iterdir()}

    before = threads()
    pool = sluice_kernels.Pool(instructions, 4)
    started = threads() - before
    assert len(started) == 3
    pool.close()
    assert not started & threads()
    pool.close()


@pytest.mark.parametrize("length", range(6, 11))
def test_a_token_that_is_not_a_number_changes_none_before_it(
    length: int, instructions: str, engine_of: Loader
) -> None:
    """Tokens of one prompt are computed side by side."""
    runner = Stepper(engine_of("llama", batch_max=4, kernels=instructions)).runner
    prompt = prompt_of(length, 96)
    with torch.inference_mode():
        sound = runner.forward([Span(0, 0, prompt, False, True, True)])
        embedding = runner._weights.embedding  # type: ignore[attr-defined]
        poisoned = embedding[90].clone()
        embedding[90] = float("inf")
        got = runner.forward([Span(1, 0, [*prompt[:-1], 90], False, True, True)])
        embedding[90] = poisoned
        for slot in range(2):
            runner.release(slot)
    assert got[-1].isnan().all()
    assert torch.equal(got[:-1], sound[:-1])


@pytest.mark.parametrize("kernels", ["fastest", "none"])
@pytest.mark.parametrize(
    "field", ["hidden_size", "intermediate_size", "num_key_value_heads", "num_attention_heads"]
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    field: str, kernels: str, zoo: Zoo, loaded: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(zoo.path("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["head_dim"] = config.get("head_dim") or (
        config["hidden_size"] // config["num_attention_heads"]
    )
    config[field] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"by config\.json it is .*mend its config\.json"):
        loaded(folder, kernels=kernels)


def test_a_library_with_other_structures_is_not_used(
    zoo: Zoo, loaded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sluice_kernels, "LAYOUT", sluice_kernels.LAYOUT + 1)
    caplog.set_level(logging.INFO)
    assert loaded(zoo.path("llama")).name == "decoder"
    assert "the library is an older one: install again" in caplog.text


def test_a_model_that_no_thread_can_be_had_for_is_refused_with_what_to_do(
    zoo: Zoo, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(instructions: str, threads: int) -> sluice_kernels.Pool:
        raise OSError(f"no {threads} threads can be started")

    monkeypatch.setattr(sluice_kernels, "Pool", none)
    with pytest.raises(ModelLoadError, match=r"no 2 threads .*NUM_THREADS"):
        loaded(zoo.path("llama"))


def test_more_threads_than_cores_compute_the_same_at_every_step(zoo: Zoo, loaded: Any) -> None:
    """Threads then come late to a phase, or to a whole step, nearly always."""
    alone, crowded = (loaded(zoo.path("llama"), num_threads=threads) for threads in (1, 9))
    with torch.inference_mode():
        for at in range(400):
            step = [Span(slot, at, [(7 * at + slot) % 96], True, True) for slot in range(3)]
            assert torch.equal(crowded.forward(step), alone.forward(step)), at
