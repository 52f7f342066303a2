"""Why a model cannot be had."""

from __future__ import annotations


class ModelNotUsable(Exception):
    """The model cannot be had; the message says why and what to do, in one line.

    It reaches clients, so it names no path and no address. ``detail`` may: it is for the log.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
