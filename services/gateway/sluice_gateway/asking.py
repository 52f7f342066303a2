"""What every generating route does first: read, parse, find the model, build the prompts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fastapi import Request

from sluice_gateway import __version__
from sluice_gateway.body import read_body
from sluice_gateway.errors import InvalidRequest, Overloaded
from sluice_gateway.exchange import Exchange
from sluice_gateway.gateway import Gateway, gateway_of
from sluice_gateway.model import ServedModel
from sluice_gateway.prompt import Prompt, PromptBuilder
from sluice_gateway.record import RequestRecord
from sluice_gateway.schema.parsing import parse
from sluice_gateway.schema.sampling import SamplingRequest
from sluice_gateway.schema.strict import Strict

#: A prompt takes a millisecond or so; more than so many in line is an overload.
PROMPTS_WAITING_MAX = 1024

LARGE_BODY_BYTES = 256 << 10

R = TypeVar("R", bound=Strict)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """The gateway that was asked, and what is noted of the request."""

    gateway: Gateway
    record: RequestRecord

    @classmethod
    def of(cls, request: Request) -> Asked:
        """From the HTTP request."""
        return cls(gateway_of(request), request.scope["state"]["record"])

    def check_admission(self, model: ServedModel, choices: int) -> None:
        """Refuse early, before a prompt is built, what would be refused anyway."""
        gateway = self.gateway
        gateway.admission.check(model.name, choices, gateway.router.capacity(model))

    def exchange(
        self, model: ServedModel, request: SamplingRequest, prompts: list[Prompt]
    ) -> Exchange:
        """The exchange that will answer ``request``."""
        return Exchange(self.gateway, model, request, prompts, self.record)


async def parse_body(request: Request, model_class: type[R]) -> R:
    """The request's body, validated. Raises ApiError.

    A large body is parsed off the event loop, as a long prompt is built.
    """
    body = await read_body(request)
    if len(body) < LARGE_BODY_BYTES:
        return parse(body, model_class)
    return await in_prompt_thread(gateway_of(request), partial(parse, body, model_class))


def prompt_builder(gateway: Gateway, model: ServedModel) -> PromptBuilder:
    """Builds prompts for ``model`` as the settings allow."""
    return PromptBuilder(model, template_variables=gateway.settings.template_kwargs_allowed)


async def in_prompt_thread(gateway: Gateway, build: Callable[[], T]) -> T:
    """Run ``build`` off the event loop: a template or a tokenizer may compute for long.

    Its time begins when a thread is free for it. Raises Overloaded when too many wait for one.
    """
    slots = gateway.prompt_slots
    if slots.waiting >= PROMPTS_WAITING_MAX:
        raise Overloaded(
            "Too many prompts wait to be prepared. Please try again later.",
            headers={"Retry-After": "1"},
        )
    seconds = gateway.settings.prompt_seconds
    async with slots:
        try:
            async with asyncio.timeout(seconds):
                return await _result(gateway.prompt_threads, build)
        except TimeoutError:
            message = f"The prompt took longer than {seconds:g} s to prepare. Send a shorter one."
            raise InvalidRequest(message) from None


async def _result(threads: Executor, build: Callable[[], T]) -> T:
    """What ``build`` returns or raises in a thread.

    As ``run_in_executor``, but with one future instead of a chain of two.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            settle = partial(result.set_result, build())
        except BaseException as error:  # noqa: BLE001 (raised where the result is awaited)
            settle = partial(result.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(_unless_done, result, settle)

    job = threads.submit(work)
    try:
        return await result
    finally:
        job.cancel()  # if it still waits for a thread


def _unless_done(result: asyncio.Future[T], settle: Callable[[], None]) -> None:
    if not result.done():  # nobody waits for it any more
        settle()


def fingerprint_of(model: ServedModel, version: str = __version__) -> str:
    """OpenAI's ``system_fingerprint``: changes when the model's numbers may, or Sluice does.

    ``version``: of this release, whose template and parsers make the prompt and the answer.
    """
    parts = f"{version} {model.info.fingerprint}"
    return f"fp_{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def answer_head(kind: str, exchange: Exchange) -> tuple[str, int, str, str]:
    """What each chunk of an answer begins with: id, created, model, system_fingerprint.

    ``kind`` is the prefix of the id; ``created`` is in seconds since 1970.
    """
    model = exchange.model
    answer_id = exchange.record.response_id = f"{kind}-{secrets.token_hex(12)}"
    return answer_id, int(time.time()), model.name, fingerprint_of(model)
