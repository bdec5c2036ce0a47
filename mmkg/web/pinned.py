"""A connection to the very address that was checked.

To check a name and then to connect to it would be two look-ups, and a name server may answer them differently. Here one
look-up gives all addresses of a host, every one of them must be public, and TCP goes to one of these; ``Host``, SNI and
the certificate keep the name. A connection that is kept open is used again for its own scheme, host and port only.

Whatever a server does, each wait ends: after `timeout_seconds` of silence, or when the request's time is over.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import httpcore

from mmkg.web.addresses import Address, Failure, check_address

Resolve = Callable[..., Sequence[tuple[Any, ...]]]
"""As `socket.getaddrinfo`: called with host, port and ``type=``."""

_MAX_TRIED = 4  # addresses of one host that we try to connect to
_MAX_LOOK_UPS = 64  # at the same time; the C library cannot be told to stop one
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})  # macOS: the first


class Budget:
    """What one request may still take: time and bytes.

    Args:
        timeout_seconds: how long a server may be silent.
    """

    __slots__ = ("_excess", "_max_received", "deadline", "is_ended", "received", "timeout_seconds")

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.received = 0  # bytes on the wire, headers among them
        self.deadline = 0.0  # of time.monotonic
        self.is_ended = False  # the server has closed the connection
        self.allow(0, "protocol")

    def allow(self, more: int, excess: str) -> None:
        """Let so many bytes more come from now on; `excess` is the status of a request that brings more."""
        self._max_received = self.received + more
        self._excess = excess

    def wait_seconds(self) -> float:
        """How long to wait for the server's next move.

        Raises:
            Failure: too_slow; no time is left.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Failure("too_slow", "took longer than a request may take")
        return min(left, self.timeout_seconds)

    def silence(self, doing: str) -> Failure:
        """Why a wait came to its end."""
        if time.monotonic() >= self.deadline:
            return Failure("too_slow", f"took longer than a request may take, {doing}")
        return Failure("timeout", f"was silent for {self.timeout_seconds:g} s, {doing}")

    def count(self, received: int) -> None:
        """Count bytes that came.

        Raises:
            Failure: more came than :meth:`allow` allows.
        """
        self.received += received
        if self.received > self._max_received:
            raise Failure(self._excess, f"sent {self.received:,} bytes, and no end of them")


class Resolver:
    """Looks names up, in threads that can be left behind.

    Args:
        resolve: answers as `socket.getaddrinfo`.
        allow_loopback: names may stand for this machine.
    """

    def __init__(self, resolve: Resolve, *, allow_loopback: bool) -> None:
        self._resolve = resolve
        self._allow_loopback = allow_loopback
        self._slots = threading.BoundedSemaphore(_MAX_LOOK_UPS)

    def find(self, host: str, port: int, budget: Budget) -> list[Address]:
        """All addresses of a host, each of them allowed, in the order in which they are to be tried.

        Raises:
            Failure: private_address, unknown_host, lookup, timeout or too_slow.
        """
        try:
            addresses: list[Address] = [ipaddress.ip_address(host)]
        except ValueError:
            addresses = self._look_up(host, port, budget)
        for address in addresses:
            check_address(address, allow_loopback=self._allow_loopback)
        return addresses

    def _look_up(self, host: str, port: int, budget: Budget) -> list[Address]:
        """Ask for the addresses of a name, no longer than the request may wait."""
        if not self._slots.acquire(timeout=budget.wait_seconds()):
            raise budget.silence("while other look-ups of names were hanging")
        answer: Future[Sequence[tuple[Any, ...]]] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._resolve(host, port, type=socket.SOCK_STREAM))
            except BaseException as error:  # noqa: BLE001 - is raised again in the thread that waits
                answer.set_exception(error)
            finally:
                self._slots.release()

        threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
        try:
            found = answer.result(timeout=budget.wait_seconds())
        except TimeoutError as error:
            raise budget.silence("looking up its name") from error
        except socket.gaierror as error:
            status = "unknown_host" if error.errno in _NO_SUCH_NAME else "lookup"
            raise Failure(status, f"{host}: {error.strerror}") from error
        except OSError as error:
            raise Failure("lookup", f"{host}: {error}") from error
        addresses = list(dict.fromkeys(ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in found))
        if not addresses:
            raise Failure("unknown_host", f"{host}: has no address")
        return addresses


class PinnedStream(httpcore.NetworkStream):
    """Bytes to and from a checked address, within the budget of the request that has the connection now."""

    def __init__(self, sock: socket.socket, backend: "PinnedBackend") -> None:
        self._socket = sock
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the budget's time counts
        """Wait for bytes; none at the end of the connection.

        Raises:
            Failure: timeout, too_slow, connection, or what the budget says of too many bytes.
        """
        budget = self._backend.budget
        try:
            self._socket.settimeout(budget.wait_seconds())
            data = self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise budget.silence("in the middle of its answer" if budget.received else "asked") from error
        except OSError as error:
            raise Failure("connection", f"broke the connection: {error.strerror or error}") from error
        if not data:
            budget.is_ended = True
        budget.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all bytes.

        Raises:
            Failure: timeout or too_slow.
            httpcore.WriteError: the server closed; its answer may still be there to be read.
        """
        budget = self._backend.budget
        try:
            while buffer:
                self._socket.settimeout(budget.wait_seconds())
                buffer = buffer[self._socket.send(buffer) :]
        except TimeoutError as error:
            raise budget.silence("while it was asked") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """Close at once; what the server still sends is not waited for."""
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Shake hands; the certificate must be that of the name.

        Raises:
            Failure: tls, connection, timeout or too_slow.
        """
        budget = self._backend.budget
        try:
            self._socket.settimeout(budget.wait_seconds())
            return PinnedStream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._backend)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, OSError):  # ssl.SSLError among them
                raise _tls_failure(error, budget) from error
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a stream: ``ssl_object``, ``socket``, ``is_readable``."""
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "is_readable":
            return _is_readable(self._socket)
        return self._socket if info == "socket" else None


def _tls_failure(error: OSError, budget: Budget) -> Failure:
    """What went wrong in a handshake."""
    if isinstance(error, TimeoutError):
        return budget.silence("in its TLS handshake")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure("tls", f"shows a certificate that is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return Failure("connection", "broke the connection in its TLS handshake")
    return Failure("tls", f"does not speak TLS as we do: {error.strerror or error}")


def _is_readable(sock: socket.socket) -> bool:
    """Whether a socket that should be quiet is not: the server closed it, or speaks without being asked."""
    try:
        sock.settimeout(0.0)
        socket.socket.recv(sock, 1, socket.MSG_PEEK)  # of the TCP socket, also under TLS
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


class PinnedBackend(httpcore.NetworkBackend):
    """Opens the TCP connection of one `httpcore.HTTPConnection`, to an address that was checked.

    Args:
        resolver: finds and checks the addresses.
    """

    budget: Budget  # of the request that has the connection now

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Look the host up, check all of its addresses, and connect to the first that answers.

        Only `host` and `port` are looked at: time is the budget's.

        Raises:
            Failure: private_address, unknown_host, lookup, refused_connection, connection, timeout or too_slow.
        """
        addresses = self._resolver.find(host, port, self.budget)[:_MAX_TRIED]
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                # An address that is dead leaves time for the others.
                return PinnedStream(_connect(address, port, self.budget.wait_seconds() / left), self)
            except TimeoutError:
                failure = self.budget.silence(f"when {address} was called")
            except ConnectionRefusedError:
                failure = Failure("refused_connection", f"{address} refuses connections to port {port}")
            except OSError as error:
                failure = Failure("connection", f"{address} cannot be reached: {error.strerror or error}")
        raise failure


def _connect(address: Address, port: int, timeout_seconds: float) -> socket.socket:
    """A TCP connection to an address; no name is looked up."""
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout_seconds)
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock
