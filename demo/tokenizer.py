"""The tokenizer: a byte-level BPE, trained on the corpus, with every digit a token of its own.

`python -m demo.tokenizer` shows how it cuts a few sentences.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from demo.chatml import ADDED_TOKENS, RESERVED_TOKENS, SPECIAL_TOKENS, text_of
from demo.corpus import conversation, raw_text

VOCAB_SIZE = 3072
CONVERSATIONS = 30_000

#: The space before a name is a token of its own, so that a name is the same tokens in a sentence
#: as between quotes: to copy it into a call or an object is then to repeat tokens, which a model
#: this small can do. Sluice is no such name: it is never copied, and it is everywhere.
NAME_SPACE = r" (?!Sluice)(?=\p{Lu}\p{L})"

_MARKS = re.compile("|".join(re.escape(token) for token in (*SPECIAL_TOKENS, *ADDED_TOKENS)))


def train_tokenizer(seed: int, conversations: int = CONVERSATIONS) -> Tokenizer:
    """Train on freshly made conversations. The same seed gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(NAME_SPACE), behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(ADDED_TOKENS),
        special_tokens=[*SPECIAL_TOKENS, *RESERVED_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, conversations), trainer)
    # Not special: a decoder that skips special tokens must leave a tool call readable.
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED_TOKENS])
    return tokenizer


def _texts(seed: int, conversations: int) -> Iterator[str]:
    """The texts between the marks, which are tokens already and must not be merged."""
    rng = random.Random(seed)
    for _ in range(conversations):
        yield from _MARKS.split(text_of(conversation(rng)))
        if rng.random() < 0.03:
            yield raw_text(rng)


def main() -> None:
    """Train one and show its cuts."""
    tokenizer = train_tokenizer(seed=1)
    for text in ("Hello! I am the Sluice demo model.", "48 plus 55 is 103.", "Grüße, 世界 👋"):
        encoding = tokenizer.encode(text)
        print(len(encoding.ids), encoding.tokens, tokenizer.decode(encoding.ids) == text)
    print(tokenizer.get_vocab_size(), Path(__file__).name)


if __name__ == "__main__":
    main()
