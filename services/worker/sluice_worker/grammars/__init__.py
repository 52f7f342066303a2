"""Structured outputs as grammars of llguidance: compiled within bounds, for every engine."""
