from __future__ import annotations

import pytest
from sluice_worker.settings import Settings, SettingsError, read_settings


def test_the_defaults_serve_the_demo_on_the_cpu() -> None:
    settings = read_settings()
    assert settings.model_id == "demo"
    assert settings.engine_name == "hf"
    assert settings.worker_address == "127.0.0.1:50051"


def test_cuda_means_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DEVICE", "cuda")
    assert read_settings().engine_name == "vllm"


def test_an_empty_variable_is_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "")
    monkeypatch.setenv("KV_CACHE_BYTES", "")
    settings = read_settings()
    assert settings.engine_name == "hf"
    assert settings.kv_cache_bytes is None


def test_bytes_may_have_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KV_CACHE_BYTES", "2GiB")
    assert read_settings().kv_cache_bytes == 2 << 30


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_MAX", "0"),
        ("BATCH_MAX", "many"),
        ("BATCH_DELAY_MS", "-1"),
        ("WORKER_ADDRESS", "nowhere"),
        ("WORKER_ADDRESS", "host:99999"),
        ("ENGINE", "tensorrt"),
        ("KV_CACHE_BYTES", "lots"),
        ("DTYPE", "int3"),
        ("TP_SIZE", "2"),
        ("FAKE_STEP_MS", "soon"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert value in message
    assert "\n" not in message


def test_vllm_refuses_the_hf_engines_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTYPE", "int8")
    assert read_settings().dtype == "int8"
    monkeypatch.setenv("ENGINE", "vllm")
    with pytest.raises(SettingsError, match=r"ENGINE=hf.*QUANTIZATION"):
        read_settings()


def test_the_hf_engine_refuses_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DEVICE", "cuda")
    monkeypatch.setenv("ENGINE", "hf")
    with pytest.raises(SettingsError, match="MODEL_DEVICE=cpu"):
        read_settings()


def test_every_setting_says_what_it_does() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description or name == "fake", name
