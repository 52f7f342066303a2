"""LangChain's client of the demo model, with connections that end with the test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx2
from langchain_openai import ChatOpenAI

from tests.processes import Gateway


@contextlib.asynccontextmanager
async def chat_openai(front: Gateway, max_tokens: int) -> AsyncIterator[ChatOpenAI]:
    # Left to itself it keeps one asynchronous client per process, for an event loop that has ended.
    async with httpx2.AsyncClient(timeout=60) as asynchronous:
        with httpx2.Client(timeout=60) as synchronous:
            yield ChatOpenAI(
                model="sluice-demo",
                base_url=f"{front.url}/v1",
                api_key="none",
                temperature=0,
                max_tokens=max_tokens,
                max_retries=0,
                http_client=synchronous,
                http_async_client=asynchronous,
            )
