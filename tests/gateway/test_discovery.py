from __future__ import annotations

import asyncio
import socket

import pytest
from sluice_gateway.discovery import Discovery


async def first(discovery: Discovery) -> frozenset[str]:
    async for addresses in discovery.changes():
        return addresses
    raise AssertionError("no addresses")


async def test_a_list_is_told_once_and_not_resolved() -> None:
    discovery = Discovery(("a:1", "b:2"), refresh_seconds=0.01)
    told = [addresses async for addresses in discovery.changes()]
    assert told == [frozenset({"a:1", "b:2"})]


async def test_a_real_name_is_resolved_to_addresses() -> None:
    addresses = await first(Discovery(("dns:///localhost:50051",), 1))
    assert "127.0.0.1:50051" in addresses or "[::1]:50051" in addresses


class Resolver:
    """Answers as a cluster's DNS does while pods come and go."""

    def __init__(self, *answers: list[str] | socket.gaierror) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, socket.gaierror):
            raise answer
        return [(socket.AF_INET, None, None, "", (address, port)) for address in answer]


async def changes(
    monkeypatch: pytest.MonkeyPatch, resolver: Resolver, count: int
) -> list[set[str]]:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
    told: list[set[str]] = []
    async with asyncio.timeout(5):
        async for addresses in Discovery(("dns:///workers:50051",), 0.01).changes():
            told.append(set(addresses))
            if len(told) == count:
                break
    return told


async def test_pods_that_come_and_go_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.2"], ["fd00::1"])
    assert await changes(monkeypatch, resolver, 4) == [
        {"10.0.0.1:50051"},
        {"10.0.0.1:50051", "10.0.0.2:50051"},
        {"10.0.0.2:50051"},
        {"[fd00::1]:50051"},
    ]


async def test_a_resolver_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = socket.gaierror(socket.EAI_AGAIN, "try again")
    resolver = Resolver(["10.0.0.1"], failure, failure, ["10.0.0.2"])
    told = await changes(monkeypatch, resolver, 2)
    assert told == [{"10.0.0.1:50051"}, {"10.0.0.2:50051"}]


async def test_a_name_without_addresses_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(["10.0.0.1"], socket.gaierror(socket.EAI_NONAME, "unknown"))
    assert await changes(monkeypatch, resolver, 2) == [{"10.0.0.1:50051"}, set()]
