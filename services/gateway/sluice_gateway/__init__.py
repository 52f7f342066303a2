"""Sluice's gateway: the OpenAI API in front of workers that speak token ids."""

__version__ = "0.1.0"

#: The version of the contract in ``proto/`` that this gateway speaks.
PROTOCOL_VERSION = 1
