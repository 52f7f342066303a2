# Compiled from ``_compiled.c``: what ``interpreted.py`` has, to the type checker as well.

from sluice_gateway.fast_path.interpreted import FastPath as FastPath
from sluice_gateway.fast_path.interpreted import deliver as deliver
