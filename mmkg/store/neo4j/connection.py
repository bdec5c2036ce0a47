"""Reaching a Neo4j server: a driver that is known to answer, and every way it can fail as an error of ours.

The driver's own messages name neither the setting nor the next step, and for five different mistakes it says
"Couldn't connect". So where a connection fails, the address is looked at once more by hand: what listens there?
"""

import logging
import os
import random
import re
import socket
import ssl
import time
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    DriverError,
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
)

from mmkg.config import StoreConfig
from mmkg.errors import StoreError

MIN_VERSION = (5, 23)  # the first with `CALL (variable) { … }`
_DEFAULT_PORT = 7687
_CONNECT_SECONDS = 10.0
_ACQUISITION_SECONDS = 20.0  # with greeting and login
_LOOK_SECONDS = 2.0  # for each look at what listens on an address
_AGENT = re.compile(r"Neo4j/v?(?P<version>\d+(?:\.\d+)*)")
# A driver's setting that servers before 5.7 do not know is refused by the driver itself.
_OLD_PROTOCOL = re.compile(r"not supported for the Bolt Protocol \(?(?P<protocol>\d[\d.]*\d)")
_BOLT_HELLO = bytes.fromhex("6060b01700000005000000040000000300000000")  # magic, then versions
_OUT_OF_MEMORY = ("MemoryPoolOutOfMemoryError", "TransactionOutOfMemoryError", "OutOfMemoryError", "StackOverFlowError")
_DISK_FULL = re.compile(r"no space left on device|disk ?(is|space)? ?full|out of disk|not enough (disk )?space", re.I)


def open_driver(config: StoreConfig, *, password: str | None = None) -> neo4j.Driver:
    """A driver for the server that a config names; the server, its version, the user and the database are checked.

    Args:
        config: names the server.
        password: the user's; that in the environment variable `config.password_env` unless given.

    Raises:
        StoreError: no server, another server, too old, wrong password, no such database: each with the next step.
    """
    secret = read_password(config) if password is None else password
    if _look_at(*_address(config.uri)) == "http":  # the driver would wait for its answer until the time-out
        raise StoreError(f"{config.uri}: {_explain_http(config)}")
    _quieten_driver()
    driver = neo4j.GraphDatabase.driver(
        config.uri,
        auth=(config.user, secret),
        connection_timeout=_CONNECT_SECONDS,
        connection_acquisition_timeout=_ACQUISITION_SECONDS,
        keep_alive=True,
        max_transaction_retry_time=0.0,  # who asks decides what may be tried again
        notifications_min_severity="OFF",
        user_agent="mmkg",
    )
    try:
        _check_version(driver.get_server_info().agent, config)
        with driver.session(database=config.database, default_access_mode=neo4j.READ_ACCESS) as session:
            session.run("RETURN 1").consume()
    except StoreError:
        driver.close()
        raise
    except (DriverError, Neo4jError, OSError) as error:
        known = _database_names(driver) if _code(error).endswith("DatabaseNotFound") else ()
        driver.close()
        raise explain(error, config, known_databases=known) from error
    except BaseException:
        driver.close()
        raise
    return driver


def read_password(config: StoreConfig) -> str:
    """The password in the environment.

    Raises:
        StoreError: the variable is not set.
    """
    password = os.environ.get(config.password_env, "")
    if not password:
        raise StoreError(
            f"{config.uri}: the password of user '{config.user}' is expected in the environment variable "
            f"{config.password_env}, which is not set. Try: export {config.password_env}=…"
        )
    return password


def _quieten_driver() -> None:
    """What the driver logs, our errors say again; a level that somebody has set is left alone."""
    for name in ("neo4j.pool", "neo4j.io", "neo4j.notifications"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _check_version(agent: str, config: StoreConfig) -> None:
    match = _AGENT.match(agent)
    version = tuple(int(part) for part in match["version"].split(".")) if match else ()
    if version[:2] < MIN_VERSION:
        raise StoreError(f"{config.uri}: {_explain_version(agent or 'a server without a version')}")


def _explain_version(found: str) -> str:
    least = ".".join(map(str, MIN_VERSION))
    return f"expected Neo4j {least} or later, found {found}. Install that, or set store.uri to another server."


def _database_names(driver: neo4j.Driver) -> tuple[str, ...]:
    """Databases of the server; none where it cannot be asked: they only make a message better."""
    try:
        with driver.session(database="system", default_access_mode=neo4j.READ_ACCESS) as session:
            names = sorted({str(name) for (name,) in session.run("SHOW DATABASES YIELD name RETURN name").values()})
    except (DriverError, Neo4jError) as error:
        logging.getLogger(__name__).debug("the databases cannot be listed: %s", error)
        return ()
    return tuple(name for name in names if name != "system")


def _code(error: BaseException) -> str:
    return (error.code or "") if isinstance(error, Neo4jError) else ""


def is_transient(error: BaseException) -> bool:
    """Whether the same may succeed a little later: a lost connection, a restart, a deadlock, a busy server.

    After a lost connection nobody knows whether a commit was done: who writes reads what is there before it goes on.
    Too little memory is transient for the server, but the same again only ends the same: see `is_out_of_memory`.
    """
    if isinstance(error, IncompleteCommit | ConnectionError | TimeoutError):
        return True
    if isinstance(error, AuthError) or is_out_of_memory(error) or is_disk_full(error):
        return False
    if isinstance(error, DriverError | Neo4jError) and error.is_retryable():
        return True
    # a server that is being stopped, or has just started
    return _code(error).rpartition(".")[2] in {
        "DatabaseUnavailable",
        "TransactionNotFound",
        "LockAcquisitionTimeout",
        "UnableToStartDatabase",
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the server took back a transaction that was too large for its memory: ask for less at once."""
    return _code(error).rpartition(".")[2] in _OUT_OF_MEMORY


def is_disk_full(error: BaseException) -> bool:
    """Whether the server has no room left to write."""
    return isinstance(error, Neo4jError) and bool(_DISK_FULL.search(error.message or ""))


class BackOff:
    """Waits between attempts: each up to twice as long as the one before, with jitter, and not for ever.

    ::

        back_off = BackOff()
        while True:
            try:
                return ask()
            except DriverError as error:
                if not (is_transient(error) and back_off.wait()):
                    raise explain(error, config) from error
    """

    def __init__(
        self,
        *,
        attempts: int = 8,
        first_seconds: float = 0.1,
        max_seconds: float = 10.0,
        random_seed: int | None = None,
    ) -> None:
        self._attempts = attempts
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self._random = random.Random(random_seed)
        self.failures = 0

    def next_seconds(self) -> float | None:
        """Count a failure; how long to wait before the next attempt, or None when there were enough."""
        self.failures += 1
        if self.failures >= self._attempts:
            return None
        longest = min(self._max_seconds, self._first_seconds * 2 ** (self.failures - 1))
        # not less than half: many clients that lost one server come back spread out, but not at once
        return longest * self._random.uniform(0.5, 1.0)

    def wait(self) -> bool:
        """Count a failure and sleep; False, without sleeping, when there were enough."""
        seconds = self.next_seconds()
        if seconds is None:
            return False
        time.sleep(seconds)
        return True

    def reset(self) -> None:
        """Begin again with short waits: there was progress."""
        self.failures = 0


def explain(error: BaseException, config: StoreConfig, *, known_databases: tuple[str, ...] = ()) -> StoreError:
    """Our error for the driver's or server's: what was expected, what was found, and what to do next.

    Args:
        error: the driver's, the server's or the operating system's.
        config: names the server.
        known_databases: the server's, for the message that one is not there.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, Neo4jError):
        return StoreError(f"{config.uri}: {_explain_answer(error, config, known_databases)}")
    if isinstance(error, ServiceUnavailable | OSError | ConfigurationError):
        return StoreError(f"{config.uri}: {_explain_connection(error, config)}")
    return StoreError(
        f"{config.uri}: the driver failed: {_first_line(error)}. Try again; see the server's log if it stays."
    )


def _explain_answer(error: Neo4jError, config: StoreConfig, known_databases: tuple[str, ...]) -> str:
    """What a server that answers has refused."""
    code = _code(error)
    name = code.rpartition(".")[2]
    message = _first_line(error.message or error)
    if is_disk_full(error):
        return f"the server's disk is full ({message}). Free some space there, restart it, and run the same again."
    if is_out_of_memory(error):
        return (
            f"the server has not enough memory for this ({message}). Raise server.memory.heap.max_size in its "
            "neo4j.conf, or ask for less at once."
        )
    answers = {
        "Unauthorized": (
            f"the server refuses user '{config.user}' with the password in {config.password_env}. Set both as the "
            "server knows them; do not try often, some wrong ones lock the user for a while."
        ),
        "AuthenticationRateLimit": (
            f"too many wrong passwords: the server has locked user '{config.user}' for some seconds "
            f"(dbms.security.auth_lock_time). Wait, set {config.password_env} to the right one, and try again."
        ),
        "CredentialsExpired": (
            f"the password of user '{config.user}' is the first one and must be changed. In cypher-shell or the "
            "browser: ALTER CURRENT USER SET PASSWORD FROM 'old' TO 'new'"
        ),
        "DatabaseNotFound": (
            f"no database is called '{config.database}'; found: {', '.join(known_databases) or 'unknown'}. "
            "Set store.database to one of the server's. Community edition has only 'neo4j'."
        ),
        "AccessMode": f"questions only read ({message}). A graph is changed by building it again.",
        "TransactionTimedOut": f"the server's own time limit (db.transaction.timeout) was reached: {message}",
    }
    if name in answers:
        return answers[name]
    if "ReadOnly" in name or "read-only" in message.lower() or "read only" in message.lower():
        return (
            f"the database '{config.database}' is read-only on this server ({message}). Remove it from "
            "server.databases.read_only and server.databases.default_to_read_only in neo4j.conf, and restart it."
        )
    if name == "Forbidden":
        return (
            f"user '{config.user}' may not do this ({message}). Use a user that may read and write '{config.database}'."
        )
    if name == "TransactionCommitFailed" or "needs to be restarted" in message:
        return (
            f"the server cannot write any more ({message}). Most often its disk is full: see its debug.log, free some "
            "space, restart it, and run the same again. What was committed before is safe."
        )
    if name == "DatabaseUnavailable":
        return f"the database '{config.database}' is not available ({message}): see the server's log."
    return f"the server refuses: {message} [{code or 'no code'}]"


def _explain_connection(error: BaseException, config: StoreConfig) -> str:
    """Why no server of ours answered at an address."""
    scheme, _, extra = urlsplit(config.uri).scheme.partition("+")
    host, port = _address(config.uri)
    at = _at(host, port)
    causes = _chain(error)
    wanted = "set store.uri to where Neo4j runs"
    if match := _OLD_PROTOCOL.search(causes):
        return _explain_version(f"a server that speaks Bolt {match['protocol']}")
    if "CERTIFICATE_VERIFY_FAILED" in causes or "certificate verify failed" in causes:
        return (
            f"the server's certificate is not trusted by this machine. Use {scheme}+ssc://{at} if it is self-signed, "
            "or install its authority's certificate."
        )
    found = _look_at(host, port)
    if found == "tls" and not extra:
        return f"the server wants TLS. Use {scheme}+s://{at}, or {scheme}+ssc://{at} for a self-signed certificate."
    if found == "bolt" and extra:
        return f"the server speaks Bolt without TLS. Use {scheme}://{at}, or turn on TLS in its neo4j.conf."
    if found == "http":
        return _explain_http(config)
    if found == "bolt" and scheme == "neo4j":
        return (
            f"a Neo4j answers at {at}, but the addresses that it names for itself cannot be reached. Use bolt://{at}, "
            f"or set server.bolt.advertised_address in its neo4j.conf. ({_first_line(error)})"
        )
    answers = {
        "no such host": f"no machine is called '{host}'. Check the name, or {wanted}.",
        "refused": f"no server listens at {at} (connection refused). Start Neo4j, or {wanted}.",
        "no answer": f"nothing answers at {at} within {_LOOK_SECONDS:g} seconds. Is a firewall between? Or {wanted}.",
        "silent": f"something listens at {at}, but does not answer as Neo4j does. Is it still starting? Or {wanted}.",
        "bolt": f"the connection was lost: {_first_line(error)}. The server answers now: run the same again.",
    }
    return answers.get(found, f"expected Neo4j at {at}, found {found}. {wanted[0].upper()}{wanted[1:]}.")


def _explain_http(config: StoreConfig) -> str:
    host, port = _address(config.uri)
    return (
        f"expected Bolt, but an HTTP server listens at {_at(host, port)}. Neo4j's browser has port 7474, drivers use "
        f"{_DEFAULT_PORT}: set store.uri to {config.uri.partition('://')[0]}://{_at(host, _DEFAULT_PORT)}."
    )


def _look_at(host: str, port: int) -> str:
    """What listens: bolt | tls | http | refused | no such host | no answer | silent | how something else greets."""
    request = f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
    greetings = []
    for hello in (_BOLT_HELLO, request):
        try:
            with socket.create_connection((host, port), timeout=_LOOK_SECONDS) as connection:
                greetings.append(_exchange(connection, hello))
        except socket.gaierror:
            return "no such host"
        except ConnectionRefusedError:
            return "refused"
        except OSError:  # a time-out among them
            return "no answer"
        if greetings[-1].startswith(b"HTTP/") and hello is request:
            # also a Neo4j that wants TLS answers plain HTTP in HTTP
            return "tls" if _speaks_tls(host, port) else "http"
        if hello is _BOLT_HELLO and len(greetings[-1]) == 4 and greetings[-1][:2] == b"\0\0":
            return "bolt"
    if _speaks_tls(host, port):
        return "tls"
    text = next((greeting for greeting in greetings if greeting), b"").decode("ascii", "replace").split("\n")[0].strip()
    return f"a server that greets with {text[:40]!r}" if text else "silent"


def _exchange(connection: socket.socket, hello: bytes) -> bytes:
    """What a server answers, at most 64 bytes; b"" if nothing."""
    try:
        connection.sendall(hello)
        return connection.recv(64)
    except OSError:
        return b""


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only a look at who is there: nothing is sent
    try:
        with (
            socket.create_connection((host, port), timeout=_LOOK_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _address(uri: str) -> tuple[str, int]:
    parts = urlsplit(uri)
    return parts.hostname or "localhost", parts.port or _DEFAULT_PORT


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].rstrip(". ")


def _chain(error: BaseException | None) -> str:
    """An error's text with those of its causes."""
    parts: list[str] = []
    while error is not None:
        parts.append(str(error))
        if isinstance(error, BaseExceptionGroup):
            parts += [_chain(one) for one in error.exceptions]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)
