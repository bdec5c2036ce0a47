"""What the tests of bounded requests share: limits, a name server that knows one address, paths that send on."""

import socket
import urllib.parse

from mmkg.web.bounded import Limits

LIMITS = Limits(max_bytes=100_000, max_seconds=5, timeout_seconds=5, max_redirects=3, allow_loopback=True)
CONTACT = "me@example.org"


def to(location, code=302):
    return f"/to/{code}/{urllib.parse.quote(location, safe='')}"


def answering(address):
    """A name server that knows one address."""
    return lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
