"""Graph → N-Triples → graph is the same set of statements, through the real sources and the real build."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from mmkg.config import Config, parse_config
from mmkg.graph.build import build_graph
from mmkg.graph.export import export_ntriples
from mmkg.sources import read_dump, read_links
from mmkg.terms import OWL_SAME_AS, RDF_TYPE, XSD, spell_literal

from .graph_tables import EX


def make_config(dumps: Sequence[Path], links: Sequence[Path]) -> Config:
    return parse_config(
        {
            "graph": {"name": "test", "workers": 1},
            "sources": [{"kind": "ntriples", "paths": [str(path) for path in dumps]}],
            "links": [{"kind": "sameas", "paths": [str(path) for path in links]}] if links else [],
        },
        Path("test.toml"),
    )


def build(folder: Path, dumps: Sequence[Path], links: Sequence[Path] = ()) -> Path:
    """Read dumps and links and build a graph out of them; returns its folder."""
    config = make_config(dumps, links)
    reads, link_reads = [], []
    for number, path in enumerate(dumps):
        reads.append(folder / f"read{number}")
        read_dump(config.sources[0], path, path.name, reads[-1], workers=1)
    for number, path in enumerate(links):
        link_reads.append(folder / f"links{number}")
        read_links(config.links[0], path, path.name, link_reads[-1], workers=1)
    build_graph(config, reads, link_reads, folder / "graph")
    return folder / "graph"


def export_and_build_again(folder: Path, graph: Path) -> dict[str, tuple[bytes, bytes]]:
    """Each file of an export, and the same file of the export of what was built from it."""
    export_ntriples(graph, folder / "first")
    dumps = [folder / "first" / name for name in ("statements.nt", "qualifiers.nt")]
    links = [folder / "first" / "sameas.nt"]
    again = build(
        folder / "again",
        [path for path in dumps if path.stat().st_size],
        [path for path in links if path.stat().st_size],
    )
    export_ntriples(again, folder / "second")
    return {
        path.name: (path.read_bytes(), (folder / "second" / path.name).read_bytes())
        for path in (folder / "first").iterdir()
    }


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
name = st.text(
    st.characters(max_codepoint=0xDFFFF, exclude_categories=["C", "Z"], exclude_characters='<>"{}|^`\\%[]#?'),
    max_size=8,
)
iri = name.map(lambda end: EX + end)
spelt = st.one_of(
    st.builds(spell_literal, text, st.none(), st.sampled_from(["en", "de-ch", "zh-hant-tw"])),
    st.builds(spell_literal, text, st.one_of(st.none(), iri, st.just(XSD + "integer"), st.just(XSD + "string"))),
    iri.map(lambda node: f"<{node}>"),
)


@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.tuples(iri, st.one_of(iri, st.just(RDF_TYPE)), spelt), min_size=1, max_size=12))
@example(
    [(EX + "a", EX + "p", spell_literal(nasty)) for nasty in ["", '"', "\\n", "\n\r\t\x00\x0b\x85\u2028", "\ufeff"]]
)
@example([(EX + "a", EX + "p", '"1"'), (EX + "a", EX + "p", f'"1"^^<{XSD}integer>'), (EX + "a", EX + "p", '"1"@en')])
def test_nasty_statements_survive(
    tmp_path_factory: pytest.TempPathFactory, statements: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    # A type is a node: what else rdf:type says is not of the graph's model.
    lines = {f"<{h}> <{r}> {t} ." for h, r, t in statements if r != RDF_TYPE or t.startswith("<")}
    if not lines:
        return
    dump = folder / "dump.nt"
    dump.write_bytes("".join(f"{line}\n" for line in sorted(lines)).encode())
    for name_, (first, second) in export_and_build_again(folder, build(folder, [dump])).items():
        assert first == second, name_
    wanted = {line.replace(f"^^<{XSD}string>", "") for line in lines}
    assert set((folder / "first" / "statements.nt").read_bytes().decode().split("\n")[:-1]) == wanted


def test_merged_names_and_qualifiers_survive(tmp_path: Path) -> None:
    dump, links = tmp_path / "dump.nt", tmp_path / "links.nt"
    dump.write_text(
        f"<{EX}a> <{EX}capital> <{EX}b> .\n"
        f'<{EX}a> <http://www.w3.org/2000/01/rdf-schema#label> "A"@en .\n'
        f'<< <{EX}a> <{EX}capital> <{EX}b> >> <{EX}since> "1871"^^<{XSD}gYear> .\n'
        f"<< <{EX}a> <{EX}capital> <{EX}b> >> <{EX}source> <{EX}q> .\n"
    )
    links.write_text(f"<{EX}a> <{OWL_SAME_AS}> <http://other.org/a> .\n")
    files = export_and_build_again(tmp_path, build(tmp_path, [dump], [links]))
    assert {name_: len(first.splitlines()) for name_, (first, _) in files.items()} == {
        "statements.nt": 2,
        "qualifiers.nt": 2,
        "sameas.nt": 1,
    }
    for name_, (first, second) in files.items():
        assert first == second, name_
