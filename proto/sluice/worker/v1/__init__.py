"""Sluice's worker contract, version 1: messages and stubs generated from worker.proto."""
