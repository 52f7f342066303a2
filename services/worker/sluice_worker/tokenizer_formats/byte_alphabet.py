"""GPT-2's alphabet, in which byte-level vocabularies are written in tokenizer.json."""

from __future__ import annotations

from functools import cache


@cache
def _alphabet() -> str:
    """The character of each byte: a printable one stands for itself, others go from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


def spelled(data: bytes) -> str:
    """The bytes in GPT-2's alphabet."""
    alphabet = _alphabet()
    return "".join(alphabet[byte] for byte in data)
