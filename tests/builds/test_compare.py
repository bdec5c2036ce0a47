"""The difference of two versions: by finger, against Python sets, and through the command."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mmkg import open_build, pipeline
from mmkg.builds.compare import Change, Difference, RelationChange, SourceChange, compare_builds, find_differences
from mmkg.cli import app
from mmkg.config import read_config
from tests.builds.versions import write_version_by_hand
from tests.graph_config import DBPEDIA, write_small_graph


def differ(old: Path, new: Path, **settings: Any) -> Difference:
    with open_build(old) as before, open_build(new) as after:
        return find_differences(before, after, **settings)


OLD = [("b", "r", "c"), ("b", "s", "c"), ("c", "r", "d")]
NEW = [("a", "q", "b"), ("b", "s", "c"), ("b", "r", "d"), ("c", "r", "d")]  # all indices have moved by one


def test_what_came_and_went_is_counted_by_relation_though_all_indices_moved(tmp_path: Path) -> None:
    old = write_version_by_hand(tmp_path / "old", OLD, labels={"b": "Bee"})
    new = write_version_by_hand(tmp_path / "new", NEW, labels={"b": "Bee", "d": "Dee"})
    difference = differ(old, new)
    assert difference.tables["entities"] == Change(added=1, removed=0, kept=3)
    assert difference.tables["relations"] == Change(added=1, removed=0, kept=2)
    assert difference.tables["triples"] == Change(added=2, removed=1, kept=2)
    assert {row.relation_id: (row.before, row.after, row.added, row.removed) for row in difference.relations} == {
        "r": (2, 2, 1, 1),
        "q": (0, 1, 1, 0),
        "s": (1, 1, 0, 0),
    }
    assert [row.relation_id for row in difference.movers] == ["r", "q"]
    assert [(e.change, e.head, e.relation, e.tail) for e in difference.examples] == [
        ("added", "a", "r0", "Bee"),  # write_graph calls relation q r0: it is the first
        ("added", "Bee", "r1", "Dee"),
        ("removed", "Bee", "r0", "c"),
    ]
    assert difference.summary() == ("against old: entities +1 −0, relations +1 −0, triples +2 −1; most in r (+1 −1)")
    assert difference.table_rows()[0] == {"table": "entities", "added": 1, "removed": 0, "kept": 3}


def test_at_most_so_many_examples_are_shown(tmp_path: Path) -> None:
    old = write_version_by_hand(tmp_path / "old", [("a", "r", f"t{i}") for i in range(9)])
    new = write_version_by_hand(tmp_path / "new", [("b", "r", f"t{i}") for i in range(9)])
    assert [e.change for e in differ(old, new, num_examples=2).examples] == ["added", "added", "removed", "removed"]
    assert differ(old, new, num_examples=0).examples == ()


def test_a_source_that_states_a_known_fact_is_a_change_of_the_source_only(tmp_path: Path) -> None:
    triples = [("a", "r", "b"), ("a", "r", "c"), ("a", "r", "d")]
    names = ("left", "right")
    bits_before, bits_after = [1, 3, 2], [2, 3, 1]  # with the names turned round: left, both, right again
    old = write_version_by_hand(
        tmp_path / "old", triples, source_names=names, sources={"triples": bits_before.__getitem__}
    )
    same = write_version_by_hand(
        tmp_path / "same", triples, source_names=names[::-1], sources={"triples": bits_after.__getitem__}
    )
    assert differ(old, same).sources == (
        SourceChange(source="left", table="triples", before=2, after=2, added=0, removed=0),
        SourceChange(source="right", table="triples", before=2, after=2, added=0, removed=0),
    )
    new = write_version_by_hand(tmp_path / "new", triples, source_names=("left",))  # left states all, right is gone
    difference = differ(old, new)
    assert difference.sources == (
        SourceChange(source="left", table="triples", before=2, after=3, added=1, removed=0),
        SourceChange(source="right", table="triples", before=2, after=0, added=0, removed=2),
    )
    assert difference.tables["triples"] == Change(added=0, removed=0, kept=3)
    assert difference.summary() == "no difference to old"


def test_a_literal_is_told_from_others_by_text_datatype_and_language(tmp_path: Path) -> None:
    before = [("a", "p", "1", "int", None), ("a", "p", "x", None, "en"), ("a", "q", "y", None, None)]
    after = [("a", "p", "1", None, None), ("a", "p", "x", None, "en"), ("a", "q", "y", None, None)]
    old = write_version_by_hand(tmp_path / "old", literals=before)
    new = write_version_by_hand(tmp_path / "new", literals=after)
    difference = differ(old, new)
    assert difference.tables["literals"] == Change(added=1, removed=1, kept=2)
    assert difference.movers == (
        RelationChange(kind="attribute", relation_id="p", before=2, after=2, added=1, removed=1),
    )


IDS = st.sampled_from("abcdef")
GRAPHS = st.sets(st.tuples(IDS, st.sampled_from("rst"), IDS), max_size=25)


@settings(max_examples=10)  # each writes and opens two whole versions
@given(GRAPHS, GRAPHS)
def test_the_difference_is_that_of_sets(old: set[tuple[str, str, str]], new: set[tuple[str, str, str]]) -> None:
    with TemporaryDirectory() as folder:
        paths = [write_version_by_hand(Path(folder) / name, rows) for name, rows in (("old", old), ("new", new))]
        difference = differ(*paths, num_examples=100)
    expected = Change(added=len(new - old), removed=len(old - new), kept=len(old & new))
    assert difference.tables["triples"] == expected
    for row in difference.relations:
        before, after = ({t for t in side if t[1] == row.relation_id} for side in (old, new))
        numbers = (len(before), len(after), len(after - before), len(before - after))
        assert (row.before, row.after, row.added, row.removed) == numbers
    assert {row.relation_id for row in difference.relations} == {t[1] for t in old | new}
    shown = {(e.change, e.head, e.tail) for e in difference.examples}
    expected_examples = {("added", h, t) for h, _, t in new - old} | {("removed", h, t) for h, _, t in old - new}
    assert shown == expected_examples
    assert len(difference.examples) == expected.added + expected.removed


def test_the_command_shows_tables_movers_sources_examples_and_dumps(tmp_path: Path) -> None:
    config = write_small_graph(tmp_path)
    first = pipeline.build(read_config(config))
    with (tmp_path / "dbpedia.nt").open("a", encoding="utf-8") as dump:
        dump.write(f"<{DBPEDIA}Spain> <http://dbpedia.org/ontology/capital> <{DBPEDIA}Madrid> .\n")
    second = pipeline.build(read_config(config))
    arguments = ["diff", str(first.folder), str(second.folder)]
    data = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert data["tables"]["triples"] == {"added": 1, "removed": 0, "kept": 3}
    assert data["tables"]["entities"] == {"added": 2, "removed": 0, "kept": 4}
    assert data["changed_dumps"] == ["dbpedia.nt"]
    assert data["relations"][0]["relation_id"] == "http://dbpedia.org/ontology/capital"
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "http://dbpedia.org/ontology/capital" in text
    assert "changed dumps: dbpedia.nt" in text
    assert any(
        line.split() == ["added", DBPEDIA + "Spain", "capital", DBPEDIA + "Madrid"] for line in text.splitlines()
    )
    with open_build(str(first.folder)) as before, open_build(str(second.folder)) as after:
        assert compare_builds(before, after)["triples"] == data["tables"]["triples"]
