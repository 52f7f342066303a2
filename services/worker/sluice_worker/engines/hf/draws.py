"""Counter-based random numbers: a draw depends on a seed and a position alone.

So a row can be moved to another batch or another worker and goes on with the same
draws. The mixer is splitmix64's (Steele, Lea and Flood 2014), applied twice.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    state = _mix((seed & _MASK) + _GAMMA)
    return (_mix(state + (position + 1) * _GAMMA) >> 11) * 2.0**-53


def _mix(state: int) -> int:
    state &= _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
