"""Exports: every statement comes out once, sorted, and any parser reads it back as it was."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from mmkg.errors import BuildError, ShardError
from mmkg.graph.export import export_ntriples, export_statements, export_tsv
from mmkg.graph.splits import build_splits
from mmkg.terms import OWL_SAME_AS, RDF_TYPE, XSD, XSD_STRING

from .graph_tables import EX, make_config, read_splits, write_graph

INTEGER = XSD + "integer"


def read_back(path: Path) -> list[tuple[Any, ...]]:
    """Statements by a parser that is not ours: head, relation, then tail, or text, datatype and language."""

    def name(node: Any) -> str:
        return f"_:{node.value}" if isinstance(node, ox.BlankNode) else node.value

    def spell(quad: ox.Quad) -> tuple[Any, ...]:
        head, relation, tail = quad.subject, quad.predicate.value, quad.object
        if isinstance(tail, ox.Literal):
            plain = tail.language is not None or tail.datatype.value == XSD_STRING
            return (name(head), relation, tail.value, None if plain else tail.datatype.value, tail.language)
        return (name(head), relation, name(tail))

    return [spell(quad) for quad in ox.parse(path.read_bytes(), format=ox.RdfFormat.N_TRIPLES)]


def test_triples_types_and_literals_come_out_sorted(tmp_path: Path) -> None:
    graph = write_graph(
        tmp_path / "graph",
        [(EX + "Paris", EX + "in", EX + "France"), (EX + "Paris", EX + "near", "_:b0")],
        types={EX + "Paris": [EX + "City", EX + "Capital"]},
        literals=[(EX + "Paris", EX + "name", "Paris", None, "fr"), (EX + "Paris", EX + "people", "02", INTEGER, None)],
        aliases={EX + "Paris": [EX + "Paname"]},
    )
    assert export_ntriples(graph, tmp_path / "out") == {"statements.nt": 6, "qualifiers.nt": 0, "sameas.nt": 1}
    assert (tmp_path / "out" / "statements.nt").read_text().splitlines() == [
        f"<{EX}Paris> <{EX}in> <{EX}France> .",
        f'<{EX}Paris> <{EX}name> "Paris"@fr .',
        f"<{EX}Paris> <{EX}near> _:b0 .",
        f'<{EX}Paris> <{EX}people> "02"^^<{INTEGER}> .',
        f"<{EX}Paris> <{RDF_TYPE}> <{EX}Capital> .",
        f"<{EX}Paris> <{RDF_TYPE}> <{EX}City> .",
    ]
    assert (tmp_path / "out" / "sameas.nt").read_text() == f"<{EX}Paris> <{OWL_SAME_AS}> <{EX}Paname> .\n"
    assert (tmp_path / "out" / "qualifiers.nt").read_bytes() == b""


def test_an_empty_graph_gives_empty_files(tmp_path: Path) -> None:
    export_ntriples(write_graph(tmp_path / "graph"), tmp_path / "out", with_dropped=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files == {"statements.nt": b"", "qualifiers.nt": b"", "sameas.nt": b"", "dropped.nt": b""}


text = st.text(max_size=40)
iri = st.text(
    st.characters(max_codepoint=0xDFFFF, exclude_categories=["C", "Z"], exclude_characters='<>"{}|^`\\%[]#?'),
    max_size=12,
).map(lambda name: EX + name)
literal = st.one_of(
    st.tuples(iri, iri, text, st.none(), st.sampled_from(["en", "de-ch", "zh-hant-tw", "x-klingon"])),
    st.tuples(iri, iri, text, st.one_of(st.none(), iri, st.just(INTEGER)), st.none()),
)


# No shrinking: each example starts an engine, and a failing one is small enough to read.
@settings(max_examples=30, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    triples=st.lists(st.tuples(iri, iri, iri), max_size=5),
    literals=st.lists(literal, max_size=8, unique=True),
    types=st.dictionaries(iri, st.sets(iri, max_size=3), max_size=3),
)
@example(
    triples=[],
    literals=[
        (EX + "a", EX + "p", nasty, None, None)
        for nasty in [
            "",
            '"',
            "\\",
            "\\n",
            "\n\r\t\x00\x0b\x85\u2028",
            "\U0010ffff",
            "'",
            '\\"',
            " # .",
            "a@en",
            "\ufeff",
        ]
    ],
    types={},
)
def test_another_parser_reads_the_same_set_of_statements(
    tmp_path_factory: pytest.TempPathFactory, triples: Any, literals: Any, types: Any
) -> None:
    folder = tmp_path_factory.mktemp("export")
    graph = write_graph(folder / "graph", triples, literals=literals, types=types)
    lines = export_statements(graph, folder / "out.nt")
    stated = {*triples, *literals, *((entity, RDF_TYPE, type_) for entity, found in types.items() for type_ in found)}
    found = read_back(folder / "out.nt")
    assert Counter(found) == Counter(stated)
    assert lines == len(stated)
    content = (folder / "out.nt").read_bytes().removesuffix(b"\n").split(b"\n")
    assert content == sorted(content)


def test_qualifiers_are_statements_about_statements(tmp_path: Path) -> None:
    about = {"head": EX + "a", "relation_id": EX + "p", "qualifier_id": EX + "since"}
    year = {"qualifier_text": "1977", "qualifier_datatype": XSD + "gYear"}
    graph = write_graph(
        tmp_path / "graph",
        [(EX + "a", EX + "p", EX + "b")],
        qualifiers=[
            {**about, "tail": EX + "b", **year},
            {**about, "tail": EX + "b", "qualifier_tail": EX + "q"},
            {**about, "text": 'say "hi"', "language": "en", "qualifier_text": "x", "qualifier_language": "de"},
        ],
    )
    assert export_ntriples(graph, tmp_path / "out")["qualifiers.nt"] == 3
    path = tmp_path / "out" / "qualifiers.nt"
    assert path.read_text().splitlines() == [
        f'<< <{EX}a> <{EX}p> "say \\"hi\\""@en >> <{EX}since> "x"@de .',
        f'<< <{EX}a> <{EX}p> <{EX}b> >> <{EX}since> "1977"^^<{XSD}gYear> .',
        f"<< <{EX}a> <{EX}p> <{EX}b> >> <{EX}since> <{EX}q> .",
    ]
    statements = list(ox.parse(io.BytesIO(path.read_bytes()), format=ox.RdfFormat.TURTLE))
    assert sum(quad.predicate.value == EX + "since" for quad in statements) == 3


def test_what_the_build_left_out_comes_on_request(tmp_path: Path) -> None:
    row = {"head": EX + "a", "relation": EX + "p", "source": "s", "dump": "d", "line": 1, "reason": "redundant"}
    graph = write_graph(
        tmp_path / "graph", dropped=[{**row, "tail": EX + "b"}, {**row, "value": "x", "language": "en"}]
    )
    assert "dropped.nt" not in export_ntriples(graph, tmp_path / "without")
    export_ntriples(graph, tmp_path / "out", with_dropped=True)
    assert read_back(tmp_path / "out" / "dropped.nt") == [
        (EX + "a", EX + "p", "x", None, "en"),
        (EX + "a", EX + "p", EX + "b"),
    ]


def test_a_broken_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    good = write_graph(tmp_path / "good", [(EX + "a", EX + "p", EX + "b")])
    bad = write_graph(tmp_path / "bad", [(EX + "a b", EX + "p", EX + "b")])
    export_ntriples(good, tmp_path / "out")
    before = (tmp_path / "out" / "statements.nt").read_bytes()
    with pytest.raises(BuildError, match="a b"):
        export_ntriples(bad, tmp_path / "out")
    assert (tmp_path / "out" / "statements.nt").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["qualifiers.nt", "sameas.nt", "statements.nt"]


def test_a_cut_off_shard_is_named(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph", [(EX + "a", EX + "p", EX + "b")])
    shard = graph / "entities" / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ShardError, match=r"entities/part-00000\.parquet"):
        export_ntriples(graph, tmp_path / "out")


def test_tsv_splits_load_in_pykeen(tmp_path: Path) -> None:
    from pykeen.triples import TriplesFactory

    triples = {(f"{EX}e{i % 20}", f"{EX}r{i % 3}", f"{EX}e{(7 * i) % 20}") for i in range(60)}
    graph = write_graph(tmp_path / "graph", triples)
    config = make_config(splits={"valid": 0.1, "test": 0.2})
    build_splits(config, graph, [], tmp_path / "splits")
    counts = export_tsv(graph, tmp_path / "splits", tmp_path / "out")
    wanted = Counter(read_splits(graph, tmp_path / "splits").values())
    assert counts == {"train": wanted["train"], "valid": wanted["valid"], "test": wanted["test"]}
    train = TriplesFactory.from_path(tmp_path / "out" / "train.tsv")
    test = TriplesFactory.from_path(
        tmp_path / "out" / "test.tsv", entity_to_id=train.entity_to_id, relation_to_id=train.relation_to_id
    )
    assert (train.num_triples, test.num_triples) == (counts["train"], counts["test"])
    assert {tuple(row) for row in test.triples} == {
        triple for triple, split in read_splits(graph, tmp_path / "splits").items() if split == "test"
    }
