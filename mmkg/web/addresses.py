"""Which addresses may be asked when strangers name them: first the look of a URL, then the numbers of its host.

A URL of a dump may be wrong, or meant to make this machine ask one that its author cannot reach: a database behind the
same firewall, the metadata service of a cloud. A URL is therefore read once and strictly, and what was read is what is
asked; nobody reads it a second time and differently. Every number that stands for a host is held against the lists
below, and against `ipaddress.is_global`, which knows fewer networks in some releases of Python than in others.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Collection

import httpx

MAX_URL_LENGTH = 8_192  # characters; servers answer 414 to longer request lines, 8 kB in Apache and nginx
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Below 1024 live mail, shells and directories, above it most of the web servers that are not on 80 or 443. Browsers let
# through every port but a list (Fetch standard, "bad port"); WordPress only 80, 443 and 8080. We stand between: of the
# ports from 1024 on, only those of the browsers' list are refused, so that nobody makes us knock at another service.
_FIRST_FREE_PORT = 1_024
_BAD_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"[^:]+://([^/?#]*)")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:@\[\]%\s]*)(?::([0-9]{0,5}))?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # the last part is a number, octal and hexadecimal among them
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")  # and the backslash, which some readers of URLs take for a slash
# Names that no public name server answers for (RFC 6761, 6762, 7686, 8375 and ICANN's `internal`).
_PRIVATE_NAMES = re.compile(r"(?:.*\.)?(?:local|internal|home\.arpa|onion)")
_HERE = re.compile(r"(?:.*\.)?localhost")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(text: str) -> list[tuple[Network, str]]:
    rows = (line.split(maxsplit=1) for line in text.strip().splitlines())
    return [(ipaddress.ip_network(network), words) for network, words in rows]


# IANA's registries of special-purpose addresses, and what is not in them.
_REFUSED_V4 = _networks("""
    0.0.0.0/8           this network
    10.0.0.0/8          private
    100.64.0.0/10       shared behind a provider's NAT
    127.0.0.0/8         loopback
    168.63.129.16/32    a service of the cloud to its machines
    169.254.0.0/16      link-local, where clouds have their metadata
    172.16.0.0/12       private
    192.0.0.0/24        for protocols
    192.0.2.0/24        documentation
    192.88.99.0/24      a relay of 6to4
    192.168.0.0/16      private
    198.18.0.0/15       benchmarks
    198.51.100.0/24     documentation
    203.0.113.0/24      documentation
    224.0.0.0/4         multicast
    240.0.0.0/4         reserved or broadcast
""")
_REFUSED_V6 = _networks("""
    ::1/128             loopback
    ::/128              unspecified
    ::ffff:0:0/96       an IPv4 address in disguise
    ::/96               an IPv4 address in disguise
    64:ff9b:1::/48      a private translation to IPv4
    100::/64            for discarding
    2001:db8::/32       documentation
    2001::/23           for protocols, Teredo among them
    2002::/16           6to4: an IPv4 address in disguise
    3fff::/20           documentation
    fc00::/7            private (unique local)
    fe80::/10           link-local
    fec0::/10           private (site-local)
    ff00::/8            multicast
""")
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all that was ever given out
# In networks without IPv4, the name server writes every IPv4 address so (RFC 6052): judged by that address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Failure(Exception):  # noqa: N818 - not shown to users: it becomes an answer
    """One request ends here.

    Args:
        status: a key of :data:`mmkg.web.bounded.STATUSES`.
        detail: in words, without a password.
    """

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What is asked, as read from a URL once and for all."""

    scheme: str  # http | https
    host: str  # ASCII, lower case, without a dot at its end; an IPv6 address without brackets
    port: int
    path: bytes  # with its query, percent-encoded
    address: Address | None  # of a host that is a number

    @property
    def host_header(self) -> str:
        """Host and port as ``Host`` has them; a default port is not named."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole, without user name, password and fragment."""
        return f"{self.scheme}://{self.host_header}{self.path.decode('ascii')}"

    @property
    def is_here(self) -> bool:
        """Whether the host calls itself this machine."""
        return self.address.is_loopback if self.address is not None else _HERE.fullmatch(self.host) is not None


def read_target(url: str, schemes: Collection[str]) -> Target:
    """Read a URL strictly; nothing is looked up.

    A space in the path is one mistake that is mended: lists of file names have many. A dot at the end of a host goes,
    as certificates have none.

    Raises:
        Failure: bad_url, bad_scheme or credentials.
    """
    if len(url) > MAX_URL_LENGTH:
        raise Failure("bad_url", f"has {len(url):,} characters; more than {MAX_URL_LENGTH:,} are not asked")
    if _UNPRINTABLE.search(url) or url != url.strip():
        raise Failure("bad_url", "has a control character, a backslash, or a space at an end")
    found = _SCHEME.match(url)
    if found is None:
        raise Failure("bad_url", "does not begin with a scheme, such as https:")
    scheme = found[1].lower()
    if scheme not in schemes or scheme not in _DEFAULT_PORTS:
        raise Failure("bad_scheme", f"'{scheme[:20]}:' is not asked; only {', '.join(schemes)}")
    authority = _AUTHORITY.match(url)
    if authority is None or not authority[1]:
        raise Failure("bad_url", "has no host")
    if "@" in authority[1]:
        raise Failure("credentials", "has a user name or a password in it")
    parts = _HOST_AND_PORT.fullmatch(authority[1])
    port = int(parts[2] or _DEFAULT_PORTS[scheme]) if parts else 0
    if parts is None or not 0 < port < 65_536:
        raise Failure("bad_url", "has a host or a port that is none")
    try:
        read = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: half of a surrogate pair
        raise Failure("bad_url", f"is no URL: {_ascii(str(error))[:200]}") from error
    host, address = _read_host(read.raw_host.decode("ascii"), is_bracketed=parts[1].startswith("["))
    return Target(scheme, host, port, read.raw_path, address)


def read_redirect(target: Target, location: str, schemes: Collection[str]) -> Target:
    """Read where an answer sends us, as strictly as the first address.

    Args:
        target: what was asked.
        location: of the answer's header; may be relative.
        schemes: that may be asked.

    Raises:
        Failure: bad_url, bad_scheme, credentials or downgrade.
    """
    try:
        further = read_target(_join(target.url, location), schemes)
    except Failure as failure:
        raise Failure(failure.status, f"sends us to an address that {failure.detail}") from failure
    if target.scheme == "https" and further.scheme == "http":
        raise Failure("downgrade", f"sends us from https to {further.url}, where anybody could change the bytes")
    return further


def _join(url: str, location: str) -> str:
    if _UNPRINTABLE.search(location):
        raise Failure("bad_url", "has a control character or a backslash")
    try:
        return str(httpx.URL(url).join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise Failure("bad_url", f"is no URL: {_ascii(str(error))[:200]}") from error


def _read_host(host: str, *, is_bracketed: bool) -> tuple[str, Address | None]:
    """A host in one spelling, and the address that it is when it is a number."""
    try:
        if is_bracketed:
            six = ipaddress.IPv6Address(host)
            return str(six), six
        host = host.lower().removesuffix(".")
        if _NUMBER.fullmatch(host):  # `2130706433`, `0x7f.1` and `0177.0.0.1` are 127.0.0.1 to the C library
            four = ipaddress.IPv4Address(host)
            return str(four), four
    except ValueError as error:
        raise Failure("bad_url", f"has a host that is neither a name nor an address: {_ascii(host)[:80]}") from error
    if not _NAME.fullmatch(host):
        raise Failure("bad_url", f"has a host that is not a name: {_ascii(host)[:80]}")
    return host, None


def _ascii(text: str) -> str:
    """Text of a stranger for a message: nothing in it moves a terminal's cursor."""
    return text.encode("ascii", errors="backslashreplace").decode("ascii")


def check_target(target: Target, *, allow_loopback: bool) -> None:
    """Check what can be checked of a target before its name is looked up.

    Raises:
        Failure: bad_port or private_address.
    """
    if target.port in _BAD_PORTS or (target.port < _FIRST_FREE_PORT and target.port not in _DEFAULT_PORTS.values()):
        raise Failure("bad_port", f"port {target.port} is not one of the web's")
    if target.address is not None:
        check_address(target.address, allow_loopback=allow_loopback)
    elif _PRIVATE_NAMES.fullmatch(target.host) or (target.is_here and not allow_loopback):
        raise Failure("private_address", f"{target.host} is a name of a private network")


def check_address(address: Address, *, allow_loopback: bool) -> None:
    """Check that an address is one of the public internet.

    Args:
        address: of a host.
        allow_loopback: let 127.0.0.0/8 and ::1 through.

    Raises:
        Failure: private_address.
    """
    reason = why_not(address)
    if reason is not None and not (allow_loopback and reason == "loopback"):
        raise Failure("private_address", f"{address} is not of the public internet: {reason}")


def why_not(address: Address) -> str | None:
    """Why an address is not one of the public internet, in words; None when it is.

    >>> why_not(ipaddress.ip_address("10.1.2.3")), why_not(ipaddress.ip_address("64:ff9b::7f00:1"))
    ('private', 'loopback, behind a translation')
    """
    if address.version == 4:
        refused = _REFUSED_V4
    elif address in _NAT64:
        inner = why_not(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        return None if inner is None else f"{inner}, behind a translation"
    else:
        refused = _REFUSED_V6
    for network, words in refused:
        if address in network:
            return words
    if address.version == 6 and address not in _PUBLIC_V6:
        return "never given out"
    return None if address.is_global else "not global"
