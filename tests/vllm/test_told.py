"""What vLLM says is cut down to the sentence that matters."""

from __future__ import annotations

from sluice_worker.engines.vllm.told import one_line


def test_pydantics_lines_become_the_one_that_matters() -> None:
    told = one_line(
        ValueError(
            "1 validation error for ModelConfig\n  Value error, The model needs more memory. "
            "[type=value_error, input_value=ArgsKwargs((), {'a': 1}), input_type=ArgsKwargs]\n"
            "    For further information visit a page"
        )
    )
    assert told == "The model needs more memory."


def test_paths_and_values_are_left_out() -> None:
    error = ValueError("No config in '/srv/models/secret/x' (parameter=model, value=[1, 2])")
    assert one_line(error) == "No config in 'the model's directory'"


def test_it_is_never_long_and_never_empty() -> None:
    assert len(one_line(ValueError("x" * 70_000))) == 300
    assert one_line(ValueError()) == "ValueError"
