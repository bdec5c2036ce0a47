"""What the tests of pulling share: data with every difficulty of keys, a server of ours, and a look at the parts."""

import gzip
from collections.abc import Iterator
from typing import Any

import pyoxigraph as ox
import pytest

from mmkg.config import SparqlConfig
from mmkg.sources.sparql import PullReport, endpoint
from tests.servers.lying_sparql import LyingServer, lying_server

P, Q, C = "http://a/p", "http://a/q", "http://a/C"
RDF_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
XSD = "http://www.w3.org/2001/XMLSchema#"


def _data() -> bytes:
    lines = [f'<http://a/item_{n:03d}> <{P}> "value {n}" .' for n in range(90)]
    lines += [f"<http://a/hub> <{P}> <http://a/leaf/{n}> ." for n in range(50)]  # one subject, more than a page
    lines += [f'<http://a/{name}> <{P}> "{name}"@ru .' for name in ("Москва", "Минск", "Казань", "Омск", "Тула")]
    lines += [f'<http://a/Ω{n}> <{P}> "é{n}" .' for n in range(30)]  # told apart by hash only
    lines += [f'<http://a/same> <{P}> "1"^^<{XSD}{kind}> .' for kind in ("integer", "int", "decimal", "byte", "string")]
    lines += [f'<http://a/same> <{P}> "1"@{language} .' for language in ("en", "de", "fr", "pt")]
    lines += [f'<http://a/same> <{P}> "http://a/x" .', f"<http://a/same> <{P}> <http://a/x> ."]
    lines += [f'<http://a/odd> <{P}> "a \\"quoted\\" \\\\ line\\nbreak\\t\\u007F" .']
    lines += [f'<http://a/item_{n:03d}> <{Q}> "{n}" .' for n in range(40)]
    lines += [f"<http://a/item_{n:03d}> <{RDF_TYPE}> <{C}> ." for n in range(10)]
    lines += [f"<http://a/item_{n:03d}> <{RDF_TYPE}> <http://a/D> ." for n in range(5, 15)]
    return ("\n".join(lines) + "\n").encode()


DATA = _data()


def as_the_server_holds_them(ntriples: bytes) -> set[str]:
    store = ox.Store()  # makes one of "1"^^xsd:int and "1"^^xsd:byte
    store.load(ntriples, format=ox.RdfFormat.N_TRIPLES)
    return {str(quad.triple) for quad in store}


EVERYTHING = as_the_server_holds_them(DATA)
ALL_OF_P = {line for line in EVERYTHING if f"> <{P}> " in line}


def running_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingServer]:
    """A server with the data, for a fixture; waits are short."""
    monkeypatch.setattr(endpoint, "BACKOFF_SECONDS", 0.01)
    with lying_server() as running:
        running.load(DATA)
        yield running


def config_of(server: LyingServer, **settings: Any) -> SparqlConfig:
    asked = {} if {"classes", "query", "predicates"} & set(settings) else {"predicates": (P,)}
    return SparqlConfig(endpoint=server.endpoint, **{"delay_seconds": 0, "page_rows": 20, **asked, **settings})


def statements_in(report: PullReport) -> list[str]:
    """As pyoxigraph reads them, in order."""
    content = b"".join(gzip.decompress(file.read_bytes()) for file in report.files)
    return list(map(str, ox.parse(content, format=ox.RdfFormat.N_TRIPLES)))


def assert_whole(report: PullReport, expected: set[str] = ALL_OF_P) -> None:
    found = statements_in(report)
    assert set(found) == expected
    assert len(found) == len(expected) == report.statements == report.endpoint_total
