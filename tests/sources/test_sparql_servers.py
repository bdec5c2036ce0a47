"""Pulling from the real engines: Apache Jena Fuseki, and OpenLink Virtuoso with a low ResultSetMaxRows.

Second way: the statements that are pulled are those that were loaded, as pyoxigraph parses both.
"""

import gzip
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import pytest

from mmkg.config import SparqlConfig
from mmkg.sources.sparql import PullReport, endpoint, pull
from tests.servers.fuseki import Fuseki, fuseki_server  # noqa: F401 - a fixture
from tests.servers.virtuoso import MAX_ROWS, Virtuoso, virtuoso_server  # noqa: F401 - a fixture
from tests.sources.dumps import read

P, Q, C = "http://a/p", "http://a/q", "http://a/C"
RDF_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
XSD = "http://www.w3.org/2001/XMLSchema#"
NTRIPLES = ox.RdfFormat.N_TRIPLES


def _data() -> list[str]:
    """What both engines hold as it is written; 420 statements of p."""
    lines = [f'<http://a/item_{n:03d}> <{P}> "value {n}" .' for n in range(150)]
    lines += [f"<http://a/hub> <{P}> <http://a/leaf/{n}> ." for n in range(120)]  # one subject, more than a page
    lines += [f'<http://a/Минск{n}> <{P}> "é日本 {n}"@ja .' for n in range(60)]  # in Virtuoso's IRIs and literals
    lines += [f'<http://a/é{n}> <{P}> "\U0001f600 {n}" .' for n in range(30)]
    lines += [f"<http://a/\U0001f600{n}> <{P}> <http://a/é/{n}> ." for n in range(20)]
    lines += [f'<http://a/same> <{P}> "1"@{language} .' for language in ("en", "de", "fr", "pt", "en-gb")]
    texts = ("1", "http://a/x", "x", r"a \"q\" \\ \n\t", "")
    lines += [f'<http://a/same> <{P}> "{text}" .' for text in texts]
    lines += [f"<http://a/same> <{P}> <http://a/x> .", f'<http://a/same> <{P}> "2001-01-01"^^<{XSD}date> .']
    long = "long " * 2000  # SR319 on Virtuoso, if it is sorted
    lines += [f'<http://a/long> <{P}> "{long}{n}" .' for n in range(8)]
    lines += [f'<http://a/same> <{P}> "{n} km"^^<http://a/km> .' for n in range(20)]
    lines += [f'<http://a/item_{n:03d}> <{Q}> "q {n}" .' for n in range(60)]
    lines += [f"<http://a/item_{n:03d}> <{RDF_TYPE}> <{C}> ." for n in range(40)]
    lines += [f"<http://a/item_{n:03d}> <{RDF_TYPE}> <http://a/D> ." for n in range(30, 50)]
    return lines


def to_bytes(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def statements_of(content: bytes) -> set[str]:
    return set(map(str, ox.parse(content, format=NTRIPLES)))


def pulled(report: PullReport) -> set[str]:
    content = b"".join(gzip.decompress(file.read_bytes()) for file in report.files)
    statements = list(map(str, ox.parse(content, format=NTRIPLES)))
    assert len(set(statements)) == len(statements) == report.statements == report.endpoint_total
    return set(statements)


def config_of(server: Fuseki | Virtuoso, **settings: Any) -> SparqlConfig:
    asked = {} if {"classes", "query", "predicates"} & set(settings) else {"predicates": (P,)}
    return SparqlConfig(endpoint=server.endpoint, **{"delay_seconds": 0, "page_rows": 40, **asked, **settings})


@pytest.fixture(params=["fuseki_server", "virtuoso_server"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fuseki | Virtuoso:
    """Either engine with the data of this file."""
    monkeypatch.setattr(endpoint, "BACKOFF_SECONDS", 0.01)
    running = request.getfixturevalue(request.param)
    running.replace_data(to_bytes(_data()))
    return running


@pytest.mark.parametrize("connections", [1, 3])
def test_what_was_loaded_is_what_is_pulled(server: Fuseki | Virtuoso, tmp_path: Path, connections: int) -> None:
    expected = statements_of(to_bytes([line for line in _data() if f"> <{P}> " in line]))
    report = pull(config_of(server, connections=connections), tmp_path / "40")
    assert pulled(report) == expected
    again = pull(config_of(server, connections=connections, page_rows=13), tmp_path / "13")
    assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in report.files]


def test_classes_and_an_own_construct_too(server: Fuseki | Virtuoso, tmp_path: Path) -> None:
    everything = statements_of(to_bytes(_data()))
    subjects = {f"<http://a/item_{n:03d}>" for n in range(50)}
    classes = pull(config_of(server, classes=(C, "http://a/D")), tmp_path / "classes")
    assert pulled(classes) == {line for line in everything if line.split()[0] in subjects}
    query = """PREFIX a: <http://a/>
        CONSTRUCT { ?item a:called ?value . ?item a:kind a:Thing }
        WHERE { ?item a:p ?value ; a:q ?q . FILTER(STRLEN(?q) > 3) }"""
    called = [f'<http://a/item_{n:03d}> <http://a/called> "value {n}" .' for n in range(10, 60)]
    kinds = [f"<http://a/item_{n:03d}> <http://a/kind> <http://a/Thing> ." for n in range(10, 60)]
    assert pulled(pull(config_of(server, query=query), tmp_path / "query")) == statements_of(to_bytes(called + kinds))


def test_blank_nodes_become_iris_that_hold_across_pages(server: Fuseki | Virtuoso, tmp_path: Path) -> None:
    """Each of 60 nodes is an object in one page and a subject in another; both are the same node again."""
    nodes = [f"<http://a/item_{n:03d}> <{P}> _:n{n} ." for n in range(60)]
    nodes += [f'_:n{n} <{P}> "of {n}" .' for n in range(60)]
    server.replace_data(to_bytes(nodes))
    report = pull(config_of(server), tmp_path)
    statements = [line.split(" ", 2) for line in pulled(report)]
    assert len(statements) == 120
    name_of = {tail: head.removeprefix("<http://a/item_")[:3] for head, _, tail in statements if "item_" in head}
    assert {name_of[head]: tail for head, _, tail in statements if "item_" not in head} == {
        f"{n:03d}": f'"of {n}"' for n in range(60)
    }
    assert all(name.startswith(("<nodeID://", "<http://127.0.0.1")) for name in name_of)
    reading = read(gzip.decompress(report.files[0].read_bytes()), tmp_path / "read", kind="sparql")
    assert (reading.counts.triples, reading.counts.rejects) == (120, 0)


def test_virtuoso_cuts_in_silence_and_is_found_out(virtuoso_server: Virtuoso, tmp_path: Path) -> None:  # noqa: F811
    """Nothing tells the pull that 50 rows is all it ever gets; 200 are asked for."""
    virtuoso_server.replace_data(to_bytes(_data()))
    report = pull(config_of(virtuoso_server, preset="virtuoso", max_rows=1000, page_rows=200), tmp_path)
    assert pulled(report) == statements_of(to_bytes([line for line in _data() if f"> <{P}> " in line]))
    assert report.bisected >= 1
    assert report.ranges > report.statements / MAX_ROWS


def test_fuseki_keeps_literals_apart_that_read_alike(fuseki_server: Fuseki, tmp_path: Path) -> None:  # noqa: F811
    kinds = ("integer", "int", "byte", "decimal", "double", "boolean", "string")
    lines = [f'<http://a/same> <{P}> "{text}"^^<{XSD}{kind}> .' for text in ("1", "01") for kind in kinds]
    lines += [f'<http://a/same> <{P}> "1"@{language} .' for language in ("en", "en-GB", "de")]
    fuseki_server.replace_data(to_bytes(lines))
    report = pull(config_of(fuseki_server, page_rows=1), tmp_path)
    assert pulled(report) == statements_of(to_bytes(lines))
    assert report.ranges == 17


def test_fuseki_changed_while_it_was_pulled(fuseki_server: Fuseki, tmp_path: Path) -> None:  # noqa: F811
    fuseki_server.replace_data(to_bytes(_data()))
    pages = 0

    def change(done: int, expected: int) -> None:
        nonlocal pages
        pages += 1
        if pages == 5:
            fuseki_server.update(f'INSERT DATA {{ <http://a/item_000> <{P}> "late" , "later" }}')
            fuseki_server.update(f"DELETE WHERE {{ <http://a/item_001> <{P}> ?value }}")

    report = pull(config_of(fuseki_server), tmp_path, progress=change)
    late = [f'<http://a/item_000> <{P}> "{text}" .' for text in ("late", "later")]
    now = [line for line in [*_data(), *late] if f"> <{P}> " in line and "<http://a/item_001>" not in line]
    assert pulled(report) == statements_of(to_bytes(now))


@pytest.mark.shared
def test_raw_infobox_statements_of_dbpedia_come_whole(
    fuseki_server: Fuseki,  # noqa: F811
    shared_data: Path,
    tmp_path: Path,
) -> None:
    """25,000 real statements of 1,566 subjects, with literals and IRIs for one predicate, by an own CONSTRUCT."""
    dump = gzip.decompress((shared_data / "kg/dbpedia/dbpedia-infobox-fragment.ttl.gz").read_bytes())
    expected = set(map(str, ox.parse(dump, format=NTRIPLES, lenient=True)))
    fuseki_server.replace_data(dump)
    query = "CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o }"
    report = pull(config_of(fuseki_server, query=query, page_rows=6000, connections=2), tmp_path)
    content = b"".join(gzip.decompress(file.read_bytes()) for file in report.files)
    assert set(map(str, ox.parse(content, format=NTRIPLES, lenient=True))) == expected
    assert report.statements == report.endpoint_total == len(expected) > 24_000
