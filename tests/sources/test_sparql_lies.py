"""An endpoint that lies in every way known from the field: the pull is whole, or fails and names the range."""

import email.utils
import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pyoxigraph as ox
import pytest

from mmkg.config import SparqlConfig
from mmkg.errors import FetchError
from mmkg.sources.sparql import pull
from tests.servers.lying_sparql import LyingServer, Question, Reply
from tests.sources.dumps import read
from tests.sources.sparql_pulls import (
    ALL_OF_P,
    DATA,
    XSD,
    P,
    as_the_server_holds_them,
    assert_whole,
    config_of,
    running_server,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingServer]:
    yield from running_server(monkeypatch)


@pytest.mark.parametrize("header", [True, False], ids=["with header", "without a word"])
def test_rows_that_are_cut_at_the_servers_limit_are_noticed_and_the_limit_learned(
    server: LyingServer, tmp_path: Path, header: bool
) -> None:
    def lie(question: Question) -> Reply | None:
        if question.kind != "page" or len(question.rows) <= 13:
            return None
        return Reply(question.with_rows(question.rows[:13]), headers={"X-SPARQL-MaxRows": "13"} if header else {})

    server.lie = lie
    report = pull(config_of(server, page_rows=40), tmp_path)
    assert_whole(report)
    assert 1 <= report.bisected <= 3  # once or twice is enough to know it


def test_a_page_of_exactly_the_known_limit_is_never_taken(server: LyingServer, tmp_path: Path) -> None:
    """19 rows are declared, one more comes in between, and 20 is where the server cuts."""
    fewer = {"type": "literal", "value": "19", "datatype": f"{XSD}integer"}

    def lie(question: Question) -> Reply | None:
        if question.kind == "count" and question.number == 1 and "mmkg_n" in question.query:
            return Reply(question.with_rows([{**question.rows[0], "mmkg_n": fewer}]))
        return None

    server.load("".join(f'<http://a/{n}> <{P}> "{n}" .\n' for n in range(20)).encode())
    server.lie = lie
    report = pull(config_of(server, page_rows=19, max_rows=20), tmp_path)
    assert report.statements == 20
    assert report.ranges > 1


@pytest.mark.parametrize("name", ["X-SPARQL-Anytime", "X-SQL-State", "206"])
def test_answers_that_say_in_passing_that_they_are_partial_are_cut_in_two(
    server: LyingServer, tmp_path: Path, name: str
) -> None:
    def lie(question: Question) -> Reply | None:
        if question.kind not in {"page", "groups"} or len(question.rows) <= 10:
            return None
        partial = question.with_rows(question.rows[:-1])
        return Reply(partial, status=206) if name == "206" else Reply(partial, headers={name: "S1TAT"})

    server.lie = lie
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert report.bisected > 0


HALF = {
    "half a JSON": lambda truth: Reply(truth[: len(truth) // 2]),
    "half a JSON closed": lambda truth: Reply(truth[: len(truth) // 2] + b"]}}"),
    "dropped connection": lambda truth: Reply(truth, sent_bytes=len(truth) // 2),
    "dropped at once": lambda truth: Reply(truth, sent_bytes=0),
    "200 with HTML": lambda truth: Reply(b"<html>Virtuoso</html>", headers={"Content-Type": "text/html"}),
    "500 with HTML": lambda truth: Reply(b"<html>Proxy Error</html>", 500, {"Content-Type": "text/html"}),
    "502": lambda truth: Reply(b"", 502),
    "JSON of something else": lambda truth: Reply(b'{"head": {}, "boolean": true}'),
    "nulls": lambda truth: Reply(b'{"head": {"vars": []}, "results": {"bindings": [null]}}'),
    "no JSON at all": lambda truth: Reply(b""),
    "not UTF-8": lambda truth: Reply(truth.replace(b"value", b"val\xff\xfe")[:-20] + truth[-20:]),
}


@pytest.mark.parametrize("how", HALF)
def test_a_broken_answer_is_asked_for_again(server: LyingServer, tmp_path: Path, how: str) -> None:
    broken = {("page", 2), ("page", 5), ("count", 1), ("groups", 1)}
    server.lie = lambda question: HALF[how](question.truth) if (question.kind, question.number) in broken else None
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert report.retried >= 2 if how == "not UTF-8" else report.retried == 4
    assert report.bisected == 0


@pytest.mark.parametrize("how", HALF)
def test_a_page_that_is_always_broken_is_cut_until_it_is_whole(server: LyingServer, tmp_path: Path, how: str) -> None:
    def lie(question: Question) -> Reply | None:
        return HALF[how](question.truth) if question.kind == "page" and len(question.rows) > 15 else None

    server.lie = lie
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert report.bisected > 0 or how == "not UTF-8"


def test_a_statement_that_never_comes_whole_is_named(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        return (
            HALF["half a JSON"](question.truth) if question.kind == "page" and b"item_042" in question.truth else None
        )

    server.lie = lie
    with pytest.raises(
        FetchError, match=r"predicate <http://a/p>, STR\(\?s\) from '.*item_04.*cannot be cut any further"
    ):
        pull(config_of(server), tmp_path)
    server.lie = lambda question: None  # the endpoint has been mended: the pull goes on
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert report.resumed > 0


def _without_last_keys(question: Question) -> Reply:
    """As Virtuoso 7, which finds no MAX among strings with and without wide characters."""
    return Reply(
        question.with_rows([{n: cell for n, cell in row.items() if n != "mmkg_last"} for row in question.rows])
    )


@pytest.mark.parametrize("how", ["partial", "too large", "500"])
def test_pages_that_never_come_end_the_pull_also_where_the_server_tells_no_last_key(
    server: LyingServer, tmp_path: Path, how: str
) -> None:
    def lie(question: Question) -> Reply | None:
        if sum(server.asked.values()) > 300:
            return Reply(b"asked for ever", 403)
        if question.kind != "page":
            return _without_last_keys(question) if question.kind in {"count", "groups"} else None
        if how == "500":
            return Reply(b"Virtuoso error", 500)
        return Reply(question.truth, headers={"X-SQL-State": "S1TAT"}) if how == "partial" else Reply(b"x" * 2**17)

    server.lie = lie
    with pytest.raises(FetchError, match=r"12 answers in a row .* for predicate <http://a/p>, STR\(\?s\) "):
        pull(config_of(server, page_rows=1000, max_answer_bytes=2**16), tmp_path)


def test_pages_that_are_too_large_come_in_pieces_where_the_server_tells_no_last_key(
    server: LyingServer, tmp_path: Path
) -> None:
    def lie(question: Question) -> Reply | None:
        if sum(server.asked.values()) > 600:
            return Reply(b"asked for ever", 403)
        if question.kind in {"count", "groups"}:
            return _without_last_keys(question)
        is_cut = question.kind == "page" and len(question.rows) > 10
        return Reply(question.truth, headers={"X-SQL-State": "S1TAT"}) if is_cut else None

    server.lie = lie
    report = pull(config_of(server, page_rows=1000), tmp_path)
    assert_whole(report)
    assert report.bisected > 0


def test_an_endless_stream_is_cut_off_and_its_range_cut_in_two(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        return Reply(b"x" * 65536, endless=True) if question.kind == "page" and len(question.rows) > 10 else None

    server.lie = lie
    report = pull(config_of(server, max_answer_bytes=2**20), tmp_path)
    assert_whole(report)
    assert report.bisected > 0


@pytest.mark.parametrize("reply", [{"wait_seconds": 1.5}, {"drip_seconds": 0.02}], ids=["silent", "dripping"])
def test_a_page_that_is_too_slow_is_cut_in_two(server: LyingServer, tmp_path: Path, reply: dict[str, float]) -> None:
    slowed: list[Question] = []

    def lie(question: Question) -> Reply | None:
        if question.kind != "page" or len(question.rows) <= 10 or len(slowed) == 2:
            return None
        slowed.append(question)
        return Reply(question.truth, **reply)

    server.lie = lie
    report = pull(config_of(server, timeout_seconds=1), tmp_path)
    assert_whole(report)
    assert report.bisected == len(slowed) == 2


def test_a_selection_too_large_to_be_counted_is_cut_at_sampled_keys(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        counted = (
            sum(int(row["mmkg_n"]["value"]) for row in question.rows) if question.kind in {"count", "groups"} else 0
        )
        return Reply(b"Virtuoso S1T00 Error", 500) if counted > 60 else None

    server.lie = lie
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert report.bisected > 0


@pytest.mark.parametrize("when", ["seconds", "date", "unsaid"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_given_the_time_it_asks_for(
    server: LyingServer, tmp_path: Path, status: int, when: str
) -> None:
    said: list[float] = []

    def lie(question: Question) -> Reply | None:
        if (question.kind, question.number) != ("page", 2):
            return None
        said.append(time.monotonic())
        date = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 from now
        header = {"seconds": {"Retry-After": "1"}, "date": {"Retry-After": date}, "unsaid": {}}[when]
        return Reply(b"slow down", status, header)

    server.lie = lie
    report = pull(config_of(server), tmp_path)
    assert_whole(report)
    assert report.retried == 1
    waited = [min(start for start in server.starts if start > moment) - moment for moment in said]
    assert min(waited) > (0.9 if when != "unsaid" else 0.009)


def test_a_server_that_stays_busy_or_asks_for_hours_is_left_in_peace(server: LyingServer, tmp_path: Path) -> None:
    server.lie = lambda question: Reply(b"", 503) if question.kind == "page" else None
    with pytest.raises(FetchError, match=r"is busy .* 3 times in a row\. Start again later"):
        pull(config_of(server, attempts=3), tmp_path)
    server.lie = lambda question: Reply(b"", 429, {"Retry-After": "86400"}) if question.kind == "page" else None
    with pytest.raises(FetchError, match="asks us to wait 86,400 s"):
        pull(config_of(server), tmp_path)


def test_no_server_and_a_refusal_are_one_message_each(server: LyingServer, tmp_path: Path) -> None:
    nobody = SparqlConfig(endpoint="http://127.0.0.1:9/sparql", predicates=(P,), attempts=2)
    with pytest.raises(FetchError, match="cannot be reached"):
        pull(nobody, tmp_path / "nobody")
    server.lie = lambda question: Reply(b"<h1>Forbidden</h1>", 403)
    with pytest.raises(FetchError, match="HTTP 403, 'Forbidden'"):
        pull(config_of(server), tmp_path / "refused")
    server.lie = lambda question: None
    with pytest.raises(FetchError, match=r"holds no statement of predicate <http://a/none>"):
        pull(config_of(server, predicates=("http://a/none",)), tmp_path / "empty")


def test_data_that_changes_between_pages_is_pulled_again(server: LyingServer, tmp_path: Path) -> None:
    added = ox.Quad(ox.NamedNode("http://a/item_000"), ox.NamedNode(P), ox.Literal("late"))
    removed = next(iter(server.store.quads_for_pattern(ox.NamedNode("http://a/hub"), ox.NamedNode(P), None)))

    def lie(question: Question) -> Reply | None:
        if (question.kind, question.number) == ("page", 10):
            server.store.extend([added, ox.Quad(ox.NamedNode("http://a/item_001"), ox.NamedNode(P), ox.Literal("too"))])
            server.store.remove(removed)
        return None

    server.lie = lie
    report = pull(config_of(server, page_rows=10), tmp_path)
    now = {str(quad.triple) for quad in server.store.quads_for_pattern(None, ox.NamedNode(P), None)}
    assert_whole(report, now)
    assert now != ALL_OF_P


def test_data_that_never_stops_changing_fails_and_names_the_range(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        if question.kind == "page" and b"item_00" in question.truth:
            late = ox.Literal(f"late {question.number}")
            server.store.add(ox.Quad(ox.NamedNode("http://a/item_000"), ox.NamedNode(P), late))
        return None

    server.lie = lie
    with pytest.raises(FetchError, match=r"keeps changing: predicate <http://a/p>, .*statements when it was pulled"):
        pull(config_of(server), tmp_path)


def test_a_count_below_the_rows_that_come_is_no_proof(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        if question.kind not in {"count", "groups"}:
            return None
        rows = [dict(row) for row in question.rows]
        for row in rows:
            row["mmkg_n"] = {**row["mmkg_n"], "value": str(max(0, int(row["mmkg_n"]["value"]) - 1))}
        return Reply(question.with_rows(rows))

    server.load("".join(f'<http://a/{n}> <{P}> "{n}" .\n' for n in range(30)).encode())
    server.lie = lie
    with pytest.raises(FetchError, match=r"predicate <http://a/p>"):
        pull(config_of(server), tmp_path)
    assert not list(tmp_path.glob("part-*"))


def test_a_row_said_twice_does_not_stand_in_for_one_that_is_missing(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        if question.kind != "page" or len(question.rows) < 15:
            return None
        return Reply(question.with_rows([*question.rows[:-1], question.rows[0]]))

    server.lie = lie
    assert_whole(pull(config_of(server), tmp_path))


def test_a_statement_from_outside_the_range_stops_the_pull(server: LyingServer, tmp_path: Path) -> None:
    foreign = {"s": {"type": "uri", "value": "http://zzz/"}, "o": {"type": "literal", "value": "x"}}

    def lie(question: Question) -> Reply | None:
        return (
            Reply(question.with_rows([foreign, *question.rows[1:]]))
            if (question.kind, question.number) == ("page", 1)
            else None
        )

    server.lie = lie
    with pytest.raises(FetchError, match=r"it gave <http://zzz/>.*order of its own"):
        pull(config_of(server), tmp_path)


def test_a_server_that_sorts_like_a_dictionary_is_refused(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        return Reply(question.truth.replace(b'"yes"', b'"no"')) if question.kind == "order" else None

    server.lie = lie
    with pytest.raises(FetchError, match="does not compare strings by code"):
        pull(config_of(server), tmp_path)


def test_blank_nodes_without_a_lasting_name_fail_by_name(server: LyingServer, tmp_path: Path) -> None:
    server.load(DATA + f'_:b <{P}> "blank" .\n'.encode())
    with pytest.raises(FetchError, match=r"has the blank node _:.*calls otherwise in every answer"):
        pull(config_of(server), tmp_path)


@pytest.mark.parametrize("counted", [True, False])
def test_blank_nodes_that_the_server_names_become_iris(server: LyingServer, tmp_path: Path, counted: bool) -> None:
    """As Virtuoso does it: JSON type bnode, and the same nodeID:// in every answer."""
    nodes = f'<nodeID://b1> <{P}> "blank" .\n<http://a/item_000> <{P}> <nodeID://b1> .\n'.encode()
    server.load(DATA + nodes)

    def lie(question: Question) -> Reply | None:
        if question.kind == "page":
            return Reply(question.truth.replace(b'"type":"uri","value":"nodeID', b'"type":"bnode","value":"nodeID'))
        return None

    server.lie = lie
    assert_whole(pull(config_of(server), tmp_path), ALL_OF_P | as_the_server_holds_them(nodes))


def test_what_is_no_rdf_becomes_a_reject_when_the_part_is_read_and_is_never_dropped(
    server: LyingServer, tmp_path: Path
) -> None:
    bad = {
        "an IRI with a port that is none": ("uri", "http://a:port/x"),
        "half a character": ("literal", "\ud800"),
    }

    def lie(question: Question) -> Reply | None:
        if question.kind != "page" or not any(row["o"]["value"] == "value 3" for row in question.rows):
            return None
        rows = question.rows
        for row in rows:
            if row["o"]["value"] in {"value 3", "value 4"}:
                kind, value = list(bad.values())[int(row["o"]["value"][-1]) - 3]
                row["o"] = {"type": kind, "value": value}
        return Reply(question.with_rows(rows))

    server.lie = lie
    report = pull(config_of(server), tmp_path / "pull")
    assert report.statements == len(ALL_OF_P)
    reading = read(gzip.decompress(report.files[0].read_bytes()), tmp_path / "read", kind="sparql")
    assert (reading.counts.triples, reading.counts.rejects) == (len(ALL_OF_P) - 2, 2)
    assert {row["reason"] for row in reading.rejects} == {"invalid_iri", "bad_escape"}


def test_a_row_without_one_of_its_terms_is_no_answer(server: LyingServer, tmp_path: Path) -> None:
    def lie(question: Question) -> Reply | None:
        rows = [{name: cell for name, cell in row.items() if name != "o"} for row in question.rows]
        return Reply(question.with_rows(rows)) if question.kind == "page" else None

    server.lie = lie
    with pytest.raises(FetchError, match=r"cannot be cut any further.*a row without \?o"):
        pull(config_of(server), tmp_path)
