"""Settings become vLLM's configuration, and what is wrong with them is said in one line."""

from __future__ import annotations

from typing import Any

import pytest
from sluice_worker.engines.vllm import check_model
from sluice_worker.engines.vllm.arguments import engine_config
from sluice_worker.engines.vllm.loading import _request_fields
from sluice_worker.engines.vllm.sampling import REQUEST_FIELDS
from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable

from tests.engines import vllm_environment
from tests.vllm.conftest import DEMO


def settings(**changes: Any) -> Settings:
    given = {name.lower(): value for name, value in vllm_environment().items()}
    return Settings(**{**given, **changes})


def test_settings_arrive() -> None:
    config = engine_config(
        settings(
            batch_max=77,
            max_model_len=512,
            enable_prefix_caching=False,
            served_model_name="mine",
            vllm_args="--enforce-eager --max-num-batched-tokens 600 --seed 5",
        ),
        DEMO,
        {},
    )
    assert config.scheduler_config.max_num_seqs == 77
    assert config.scheduler_config.max_num_batched_tokens == 600
    assert config.model_config.max_model_len == 512
    assert config.model_config.seed == 5
    assert config.model_config.served_model_name == "mine"
    assert config.model_config.enforce_eager
    assert not config.cache_config.enable_prefix_caching
    assert config.cache_config.kv_cache_memory_bytes == 256 << 20
    assert config.structured_outputs_config.backend == "guidance"


def test_rows_come_by_priority_unless_the_operator_says_otherwise() -> None:
    config = engine_config(settings(), DEMO, {})
    assert config.scheduler_config.policy == "priority"
    assert _request_fields(config) == REQUEST_FIELDS
    config = engine_config(settings(vllm_args="--scheduling-policy fcfs"), DEMO, {})
    assert config.scheduler_config.policy == "fcfs"
    assert _request_fields(config) == REQUEST_FIELDS - {"priority"}


def test_a_model_is_described_by_its_config_alone() -> None:
    assert "LlamaForCausalLM" in check_model(settings(), DEMO)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--no-such-thing", "VLLM_ARGS: .*--no-such-thing"),
        ("--max-num-batched-tokens many", "VLLM_ARGS: .*max-num-batched-tokens.*many"),
        ("--model other", "VLLM_ARGS: --model is set by Sluice"),
        ("--tensor-parallel-size 2", "VLLM_ARGS: --tensor-parallel-size is set by Sluice"),
        ('--seed "5', "VLLM_ARGS: .*quotation"),
        ("--max-num-batched-tokens 3", "vLLM cannot serve it so"),
        ("--config some.yaml", "VLLM_ARGS: --config is not taken"),
        ("--runner pooling", "--runner is set by Sluice"),
        ("--logprobs-mode raw_logits", "--logprobs-mode is set by Sluice"),
        ('--compilation-config \'{"level": "x"}\'', "VLLM_ARGS|vLLM cannot serve it so"),
        ("--reasoning-parser no-such-parser", "."),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: str, told: str) -> None:
    with pytest.raises(ModelNotUsable, match=told) as caught:
        check_model(settings(vllm_args=arguments), DEMO)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_device_that_is_not_there_is_named() -> None:
    other = {"cpu": "cuda", "cuda": "cpu"}[vllm_environment()["MODEL_DEVICE"]]
    with pytest.raises(ModelNotUsable, match=f"MODEL_DEVICE={other}, but vLLM finds"):
        check_model(settings(model_device=other), DEMO)


def test_a_quantization_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(ModelNotUsable, match="vLLM cannot serve it so"):
        check_model(settings(quantization="no-such-method"), DEMO)
