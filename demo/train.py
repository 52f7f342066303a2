"""Train the demo model from scratch: `python -m demo.train`.

Makes the corpus as it goes, trains the tokenizer, then the model, and writes a Hugging Face
directory. The same seed on the same kind of processor gives the same model. A step takes
about 0.45 seconds of processor time on an Intel Xeon with AMX, 0.32 with --compile.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from demo.attention import use_blocks
from demo.batches import Batch, Stream
from demo.export import CONTEXT, export
from demo.tokenizer import train_tokenizer

OUTPUT = Path(__file__).parents[1] / "services/worker/sluice_worker/demo_model"


@dataclass(frozen=True)
class Plan:
    """How to train. A step is 2048 tokens."""

    steps: int = 10_000
    warmup: int = 150
    matrix_rate: float = 0.02
    other_rate: float = 0.004
    seed: int = 1
    threads: int = 1
    compiled: bool = False
    start: Path | None = None


@dataclass(frozen=True)
class Optimizers:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms.

    Muon (Jordan et al., 2024) orthogonalises the momentum of a matrix. Here it costs an eighth
    of a step; after 300 steps the loss was 1.01, with AdamW alone (rate 0.003, not tuned) 1.16.
    """

    matrices: torch.optim.Optimizer
    others: torch.optim.Optimizer

    @classmethod
    def of(cls, model: LlamaForCausalLM, plan: Plan) -> Optimizers:
        """The optimizers of a model's parameters."""
        layers = [p for p in model.model.layers.parameters() if p.ndim == 2]
        known = {id(p) for p in layers}
        rest = [p for p in model.parameters() if id(p) not in known]
        return cls(
            torch.optim.Muon(layers, lr=plan.matrix_rate, weight_decay=0.01),
            torch.optim.AdamW(rest, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )

    def step(self, plan: Plan, share: float) -> None:
        """One update, at `share` of the full learning rates."""
        for optimizer, rate in ((self.matrices, plan.matrix_rate), (self.others, plan.other_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def build_model(vocab_size: int) -> LlamaForCausalLM:
    """A Llama of about 3 million parameters. Heads are 32 wide, the least that vLLM takes."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=True,
    )
    untyped: Any = LlamaForCausalLM
    model: LlamaForCausalLM = untyped(config)
    return model


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Return the mean next-token loss of the tokens that count, in nats."""
    counted = batch.counted[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        # The head is a fifth of the work: skip it where nothing counts.
        logits = model.lm_head(hidden[:, :-1][counted])
    return functional.cross_entropy(logits.float(), batch.ids[:, 1:][counted])


def rate_share(step: int, plan: Plan) -> float:
    """Linear warm-up, a level stretch to the middle, then straight down to a fiftieth."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    left = (plan.steps - step) / max(1, plan.steps - plan.steps // 2)
    return 0.02 + 0.98 * min(1.0, left)


def train(plan: Plan, output: Path) -> None:
    """Train and write the model to `output`; print progress as it goes."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    began = time.monotonic()
    tokenizer, model = _begin(plan)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size:,} parameters, tokenizer in {time.monotonic() - began:.0f} s", flush=True)
    _run(model, tokenizer, plan)
    export(model, tokenizer, output)
    minutes = (time.monotonic() - began) / 60
    print(f"wrote {output} after {minutes:.1f} minutes on {plan.threads} thread(s)", flush=True)


def _begin(plan: Plan) -> tuple[Tokenizer, LlamaForCausalLM]:
    """A new tokenizer and model, or those of an earlier run."""
    if plan.start is None:
        tokenizer = train_tokenizer(plan.seed)
        return tokenizer, build_model(tokenizer.get_vocab_size())
    tokenizer = Tokenizer.from_file(str(plan.start / "tokenizer.json"))
    return tokenizer, LlamaForCausalLM.from_pretrained(plan.start, dtype=torch.float32)


def _run(model: LlamaForCausalLM, tokenizer: Tokenizer, plan: Plan) -> None:
    optimizers = Optimizers.of(model, plan)
    use_blocks(model)
    if plan.compiled:
        model.model.compile(dynamic=False)  # once for each of the three shapes of batches
    batches = Stream(tokenizer, plan.seed + 1).batches()
    began, mean, tokens = time.monotonic(), 0.0, 0
    model.train()
    for step, batch in zip(range(plan.steps), batches, strict=False):
        loss = loss_of(model, batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(plan, rate_share(step, plan))
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        tokens += batch.ids.numel()
        if (step + 1) % 50 == 0:
            spent = time.monotonic() - began
            left = spent / (step + 1) * (plan.steps - step - 1) / 60
            print(
                f"step {step + 1}/{plan.steps}  loss {mean:.4f}  {tokens / spent:,.0f} tokens/s"
                f"  {left:.1f} minutes left",
                flush=True,
            )


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the Sluice demo model.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the model goes")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="steps of 2048 tokens")
    parser.add_argument("--threads", type=int, default=Plan.threads, help="CPU threads")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="fuse small operations: a third less time after two minutes; wants a C++ compiler",
    )
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--start", type=Path, help="go on from this model, at a third of the rates")
    arguments = parser.parse_args()
    rates = Plan.matrix_rate, Plan.other_rate
    matrix_rate, other_rate = (rate / 3 if arguments.start else rate for rate in rates)
    plan = Plan(
        steps=arguments.steps,
        matrix_rate=matrix_rate,
        other_rate=other_rate,
        seed=arguments.seed,
        threads=arguments.threads,
        compiled=arguments.compile,
        start=arguments.start,
    )
    train(plan, arguments.output)


if __name__ == "__main__":
    main()
