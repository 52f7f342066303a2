"""The short way of nearly every token: from the frame to its stream's next chunk.

It is there twice, compiled from C and interpreted, and both say the same. The compiled one takes a
tenth of the time; it is built where there is a C compiler and Python's headers.
"""

from __future__ import annotations

try:
    from sluice_gateway.fast_path._compiled import FastPath, deliver
except ImportError as error:
    from sluice_gateway.fast_path.interpreted import FastPath, deliver

    why_interpreted = str(error)
else:
    why_interpreted = ""

__all__ = ["FastPath", "deliver", "why_interpreted"]
