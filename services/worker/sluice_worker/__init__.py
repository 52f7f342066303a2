"""Sluice's worker: loads one model and generates token ids for gateways over gRPC."""

__version__ = "0.1.0"

#: The version of the contract in ``proto/`` that this worker speaks.
PROTOCOL_VERSION = 1
