"""A guard: whoever connects to another machine, or asks a name server, fails, and so does the test."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest


class LeftLoopback(AssertionError):
    """A connection to another machine was tried."""


def _is_here(host: object) -> bool:
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return host in (None, "", "localhost") or str(host).endswith(".localhost")


@contextlib.contextmanager
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let sockets reach this machine only; fails at the end if anything was tried, also in a thread that hid it."""
    tried: list[str] = []

    def guard(name: str) -> None:
        real = getattr(socket.socket, name)

        def guarded(sock: socket.socket, *args: Any) -> Any:
            address = args[-1]
            if sock.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
                tried.append(f"{name} {address}")
                raise LeftLoopback(tried[-1])
            return real(sock, *args)

        monkeypatch.setattr(socket.socket, name, guarded)

    for name in ("connect", "connect_ex", "sendto"):
        guard(name)
    real_look_up = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        text = host.decode() if isinstance(host, bytes) else host
        if not _is_here(text):
            tried.append(f"look up {text}")
            raise LeftLoopback(tried[-1])
        return real_look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield tried
    if tried:
        pytest.fail(f"left loopback: {'; '.join(tried)}", pytrace=False)
