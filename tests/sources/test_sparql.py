"""What a pull asks for and what it leaves behind: selections, settings, manners, and a finished pull used again."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmkg.config import SparqlConfig
from mmkg.errors import ConfigError, FetchError, NotInstalled
from mmkg.sources.sparql import ledger, pull
from mmkg.sources.sparql.presets import PRESETS, limits_of
from tests.servers.lying_sparql import LyingServer, Reply, lying_server
from tests.sources.sparql_pulls import (
    ALL_OF_P,
    EVERYTHING,
    C,
    P,
    Q,
    assert_whole,
    config_of,
    running_server,
    statements_in,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingServer]:
    yield from running_server(monkeypatch)


def test_a_pull_by_predicate_brings_every_statement_once(server: LyingServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = pull(config_of(server), tmp_path, progress=lambda done, expected: seen.append((done, expected)))
    assert_whole(report)
    assert report.ranges >= len(ALL_OF_P) / 20
    assert seen == sorted(seen)
    assert seen[-1] == (len(ALL_OF_P), len(ALL_OF_P))
    assert not any("OFFSET" in one.query or "ORDER BY" in one.query for one in server.questions)
    assert all(len(one.rows) <= 20 for one in server.questions if one.kind == "page")


@pytest.mark.parametrize("page_rows", [1, 2, 7, 1000])
def test_the_parts_do_not_depend_on_how_the_ranges_were_cut(
    server: LyingServer, tmp_path: Path, page_rows: int
) -> None:
    expected = pull(config_of(server), tmp_path / "20")
    report = pull(config_of(server, page_rows=page_rows, connections=3), tmp_path / "other")
    assert_whole(report)
    assert [file.read_bytes() for file in report.files] == [file.read_bytes() for file in expected.files]


def test_classes_bring_all_about_their_instances_each_statement_once(server: LyingServer, tmp_path: Path) -> None:
    report = pull(config_of(server, classes=(C, "http://a/D")), tmp_path)
    subjects = {f"<http://a/item_{n:03d}>" for n in range(15)}
    assert_whole(report, {line for line in EVERYTHING if line.split()[0] in subjects})


def test_an_own_construct_gives_what_the_endpoint_would_construct(server: LyingServer, tmp_path: Path) -> None:
    query = """PREFIX a: <http://a/>
        CONSTRUCT { ?item a:has ?value ; a a:Thing . ?value a:of ?item }  # { a comment with a brace
        WHERE { ?item a:p ?value OPTIONAL { ?item a:q ?more } FILTER(?more != "}" || STRLEN(STR(?value)) > 7) }"""
    expected = set(map(str, server.store.query(query)))  # ?value is a literal for items: no statement has it as subject
    report = pull(config_of(server, query=query), tmp_path)
    assert set(statements_in(report)) == expected
    assert len(expected) > 100


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * WHERE { ?s ?p ?o }", "no CONSTRUCT"),
        ("CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o } LIMIT 5", "it has LIMIT"),
        ("CONSTRUCT { ?s ?p ?o } WHERE { { SELECT * { ?s ?p ?o } OFFSET 5 } }", "it has OFFSET"),
        ("CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o } ORDER BY ?s", "behind its pattern stands 'ORDER BY"),
        ("CONSTRUCT { ?s ?p [] } WHERE { ?s ?p ?o }", "blank node"),
        ("CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p", "not SPARQL 1.1"),
        ("CONSTRUCT { ?s b:p ?o } WHERE { ?s b:p ?o }", "cannot be understood"),
        ("CONSTRUCT WHERE { ?s ?p ?o }", "template is missing"),
        ("CONSTRUCT { <a:b> <a:c> <a:d> } WHERE { ?s ?p ?o }", "has no variable"),
    ],
)
def test_a_query_that_cannot_be_paged_is_refused_before_any_request(
    server: LyingServer, tmp_path: Path, query: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        pull(config_of(server, query=query), tmp_path)
    assert not server.questions


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://example.org/sparql"])
def test_a_redirect_to_anything_but_another_endpoint_is_refused(
    server: LyingServer, tmp_path: Path, target: str
) -> None:
    server.lie = lambda question: Reply(b"", 302, {"Location": target})
    with pytest.raises(FetchError, match=re.escape(target)):
        pull(config_of(server), tmp_path)


def test_a_redirect_carries_the_question_along(server: LyingServer, tmp_path: Path) -> None:
    with lying_server() as moved:
        moved.lie = lambda question: Reply(b"", 301, {"Location": server.endpoint})
        assert_whole(pull(config_of(moved), tmp_path))


def test_nothing_is_asked_of_another_machine_without_a_contact(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`contact` is not set"):
        pull(SparqlConfig(endpoint="https://dbpedia.org/sparql", preset="dbpedia", predicates=(P,)), tmp_path)


def test_the_user_agent_says_who_asks(server: LyingServer, tmp_path: Path) -> None:
    pull(config_of(server, contact="graph@example.org"), tmp_path)
    agents = {question.headers["User-Agent"] for question in server.questions}
    assert len(agents) == 1
    assert "mmkg/" in (agent := agents.pop())
    assert "(graph@example.org)" in agent


def test_no_more_connections_than_allowed_and_a_delay_between_requests(server: LyingServer, tmp_path: Path) -> None:
    server.lie = lambda question: Reply(question.truth, wait_seconds=0.03)
    pull(config_of(server, connections=3), tmp_path / "three")
    assert server.most_at_once == 3
    server.starts.clear()
    pull(config_of(server, connections=3, delay_seconds=0.05, page_rows=60), tmp_path / "delay")
    assert max(server.starts) - min(server.starts) > 0.05 * (len(server.starts) - 1) - 0.1
    assert len(server.starts) > 6


def test_without_sparqlwrapper_the_message_says_how_to_get_it(
    server: LyingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SPARQLWrapper", None)
    with pytest.raises(NotInstalled, match=r"pip install 'mmkg\[sparql\]'"):
        pull(config_of(server), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoint": "ftp://a/sparql", "predicates": (P,)}, "no http"),
        ({"endpoint": "http://a/sparql"}, "exactly one of"),
        ({"endpoint": "http://a/sparql", "predicates": (P,), "classes": (C,)}, "exactly one of"),
        ({"endpoint": "http://a/sparql", "predicates": ("birthPlace",)}, "no whole IRI"),
        ({"endpoint": "http://a/sparql", "predicates": ("http://a/p> ?x . ?y <http://a/q",)}, "no whole IRI"),
        ({"endpoint": "http://a/sparql", "classes": (C,), "graph": "x y"}, "no whole IRI"),
        ({"endpoint": "http://a/sparql", "classes": (C,), "contact": "a\r\nX-Header: b"}, "pattern"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparqlConfig(**settings)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_asks_for_less_than_the_endpoint_gives(preset: str) -> None:
    limits = limits_of(SparqlConfig(endpoint="http://a/sparql", preset=preset, classes=(C,)))
    assert limits.max_rows is None or limits.page_rows < limits.max_rows
    assert limits_of(SparqlConfig(endpoint="http://a/sparql", preset=preset, classes=(C,), max_rows=50)).page_rows == 45


def test_a_page_at_the_known_limit_is_a_config_error(server: LyingServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"page_rows = 20 is not below the 20 rows"):
        pull(config_of(server, max_rows=20), tmp_path)


def test_a_finished_pull_is_used_again_while_it_is_young_and_whole(server: LyingServer, tmp_path: Path) -> None:
    first = pull(config_of(server), tmp_path)
    asked = server.asked.total()
    again = pull(config_of(server, page_rows=7), tmp_path)
    assert (again.files, again.statements, again.requests) == (first.files, first.statements, 0)
    assert server.asked.total() == asked
    assert pull(config_of(server, max_age_hours=0), tmp_path).requests > 0
    first.files[0].write_bytes(b"damaged")
    assert_whole(pull(config_of(server), tmp_path))
    assert pull(config_of(server, predicates=(Q,)), tmp_path).statements == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-000000.nt.gz", "pull.json"]
    assert json.loads((tmp_path / "pull.json").read_text())["endpoint_total"] == 40


def test_parts_end_after_so_many_statements(
    server: LyingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PART_STATEMENTS", 50)
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert [file.name for file in report.files] == [f"part-{n:06d}.nt.gz" for n in range(-(-len(ALL_OF_P) // 50))]
