"""Has an engine compile structured outputs beside its steps: a few at once, the others in order."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from sluice_worker.engines.base import Engine, ErrorCode, RequestError, StructuredOutput
from sluice_worker.threads import from_thread

#: Compiling takes a core away from the engine's steps.
AT_ONCE = 2

#: Each holds its prompt and up to 64 KiB of source.
WAITING_MAX = 512


class Preparer:
    """Calls ``Engine.prepare`` in threads. Lives on the event loop's thread."""

    def __init__(self, at_once: int = AT_ONCE, waiting_max: int = WAITING_MAX) -> None:
        self._threads = ThreadPoolExecutor(at_once, "prepare")
        # The pool's own queue keeps what was called off until a thread is free: not used.
        self._places = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._waiting_max = waiting_max

    async def prepare(self, engine: Engine, output: StructuredOutput) -> None:
        """Return when ``output`` is compiled.

        Raises RequestError: what the engine raises, or OVERLOADED when too many wait.
        """
        if self._places.locked() and self._waiting >= self._waiting_max:
            raise RequestError(
                ErrorCode.OVERLOADED, "Too many structured outputs wait to be compiled."
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        await asyncio.wrap_future(self._start(engine, output))

    def _start(self, engine: Engine, output: StructuredOutput) -> Future[None]:
        """Compile in a thread. Its place is free when it has ended, awaited or not."""
        loop = asyncio.get_running_loop()
        try:
            job = self._threads.submit(_prepare, engine, output)
        except BaseException:  # there may be no thread left for it
            self._places.release()
            raise
        job.add_done_callback(lambda ended: from_thread(loop, self._free, ended))
        return job

    def _free(self, _ended: Future[None]) -> None:
        self._places.release()


def _prepare(engine: Engine, output: StructuredOutput) -> None:
    try:
        engine.prepare(output)
    except Exception:
        raise
    except BaseException as error:  # a panic in Rust is no Exception; only this request fails
        raise RuntimeError("the engine panicked") from error
