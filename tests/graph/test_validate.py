"""Findings on graphs that can be checked by finger, and shapes with planted violations."""

from pathlib import Path
from typing import Any

import pytest

from mmkg.errors import ConfigError
from mmkg.graph.validate import build_findings
from mmkg.shards import open_table
from mmkg.terms import OWL, RDFS, RDFS_LABEL, XSD

from .graph_tables import EX, make_config, write_graph

SHAPES = Path(__file__).parents[2] / "schemas" / "shacl" / "atlas.ttl"
DBO = "http://dbpedia.org/ontology/"


def find(tmp_path: Path, *args: Any, config: Any = None, **kwargs: Any) -> tuple[dict[str, set[tuple[str, str]]], dict]:
    graph = write_graph(tmp_path / "graph", *args, **kwargs)
    counts = build_findings(config or make_config(), graph, tmp_path / "out")
    rows = open_table(tmp_path / "out", "findings").to_table().to_pylist()
    found: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        found.setdefault(row["check"], set()).add((row["subject"], row["detail"]))
    assert rows == sorted(rows, key=lambda row: (row["check"], row["subject"], row["detail"]))
    assert all(counts[check] == sum(row["check"] == check for row in rows) for check in found)
    return found, counts


def test_an_entity_that_is_only_mentioned_once_dangles(tmp_path: Path) -> None:
    found, counts = find(
        tmp_path,
        [
            ("a", "r", "b"),
            ("a", "r", "c"),
            ("d", "r", "c"),
            ("a", "r", "e"),
            ("a", "r", "f"),
            ("a", "r", "g"),
            ("s", "r", "s"),
        ],
        labels={"a": "A", "e": "E"},
        types={"f": ["T"]},
        literals=[("g", "p", "1", None, None)],
        others=["lone"],
    )
    assert found["dangling"] == {
        ("b", "the tail of one triple, of r"),
        ("d", "the head of one triple, of r"),
        ("s", "the head of one triple, of r"),
        ("lone", "in no triple"),
    }
    assert counts["orphans"] == 1
    assert counts["entities"] == 9 and counts["triples"] == 7 and counts["literals"] == 1


def test_entities_without_label_are_found_but_not_blank_nodes(tmp_path: Path) -> None:
    found, counts = find(tmp_path, [("a", "r", "b"), ("b", "r", "_:x"), ("b", "r", "b")], labels={"a": "A"})
    assert found["no_label"] == {("b", "in 3 triples")}
    assert counts["unlabelled"] == 2


def test_a_relation_with_one_triple_is_found(tmp_path: Path) -> None:
    found, _ = find(tmp_path, [("a", "r", "b"), ("a", "s", "b"), ("b", "s", "a")])
    assert found["used_once"] == {("r", "a → b")}


def test_disjoint_types_clash_by_config_and_by_the_graph_with_its_subclasses(tmp_path: Path) -> None:
    config = make_config(identity={"disjoint_types": [["Person", "Place"]]})
    found, _ = find(
        tmp_path,
        [
            ("Event", OWL + "disjointWith", "Place"),
            ("Person", OWL + "disjointWith", "Place"),  # twice, and the other way round below
            ("Place", OWL + "disjointWith", "Person"),
            ("City", RDFS + "subClassOf", "Place"),
            ("Town", RDFS + "subClassOf", "City"),
            ("City", RDFS + "subClassOf", "Town"),  # a ring
        ],
        types={
            "x": ["Person", "Place"],
            "y": ["Event", "Town"],
            "z": ["City", "Town", "Place"],
            "w": ["Person", "Event"],
        },
        config=config,
    )
    assert found["type_clash"] == {("x", "Person and Place are disjoint"), ("y", "Event and Town are disjoint")}


def test_no_disjoint_types_no_clash(tmp_path: Path) -> None:
    found, counts = find(tmp_path, [("a", "r", "b")], types={"a": ["S", "T"]})
    assert "type_clash" not in found and counts["type_clash"] == 0


def test_the_one_tail_of_another_type_clashes_with_the_range(tmp_path: Path) -> None:
    triples = [(f"h{i}", "capital", f"c{i}") for i in range(30)]
    types = {f"c{i}": ["City", "Place"] for i in range(30)} | {f"h{i}": ["Country"] for i in range(30)}
    types["c7"] = ["Person"]
    types["c9"] = ["Place"]  # no City, but a Place as the others are
    del types["c8"]  # an end without any type says nothing
    found, _ = find(tmp_path, triples, types=types)
    assert found["range_clash"] == {("capital", "c7 is no Place, as tails of 28 of 29 are")}
    assert "domain_clash" not in found
    few = find(tmp_path / "few", triples[:10], types=types)[0]
    assert "range_clash" not in few


def country(name: str, **changes: Any) -> dict[str, Any]:
    """A country that fits the shapes, but for the changes."""
    values = {"label": name, "population": "5000000", "area": "1.0E9", "latitude": "10.5", **changes}
    keys = {
        "label": (RDFS_LABEL, None),
        "population": (DBO + "populationTotal", XSD + "nonNegativeInteger"),
        "area": (DBO + "areaTotal", XSD + "double"),
        "latitude": ("http://www.w3.org/2003/01/geo/wgs84_pos#lat", XSD + "float"),
    }
    literals = [
        (EX + name, key, values[field], datatype, None)
        for field, (key, datatype) in keys.items()
        if values[field] is not None
    ]
    triples = [(EX + name, DBO + "capital", EX + f"{name}City"), (EX + name, DBO + "continent", EX + "Europe")]
    types = {EX + name: [DBO + "Country"], EX + "Europe": [DBO + "Continent"]}
    return {"triples": triples, "literals": literals, "types": types}


def with_shapes(**checks: Any) -> Any:
    return make_config(checks={"shapes": [str(SHAPES)], **checks})


def test_a_country_that_fits_the_shapes_of_the_atlas_gives_no_finding(tmp_path: Path) -> None:
    found, counts = find(tmp_path, **country("Ruritania"), config=with_shapes())
    assert "shacl" not in found and counts["shacl"] == 0 and counts["shacl_not_run"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": "many"}, "has a population"),
        ({"population": None}, "has a population"),
        ({"population": "0"}, "has a population"),
        ({"label": None}, "has a label"),
        ({"area": "-1"}, "has an area"),
        ({"latitude": "190"}, "a latitude is between"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found, _ = find(tmp_path, **country("Ruritania", **changes), config=with_shapes())
    [(subject, detail)] = found["shacl"]
    assert subject == EX + "Ruritania"
    assert message in detail and detail.startswith("Violation of <")


def test_a_missing_capital_is_a_warning_and_a_wrong_continent_a_violation(tmp_path: Path) -> None:
    rows = country("Monaco")
    rows["triples"] = [(EX + "Monaco", DBO + "continent", EX + "Monaco")]
    found, _ = find(tmp_path, **rows, config=with_shapes())
    first, second = sorted(detail for _, detail in found["shacl"])
    assert first.startswith(f"Violation of <{DBO}continent>: lies on a continent Found: <{EX}Monaco>")
    assert first != second and second == f"Warning of <{DBO}capital>: has a capital"


def test_shacl_on_a_graph_that_is_too_large_is_said_not_to_have_run(tmp_path: Path) -> None:
    found, _ = find(tmp_path, **country("Ruritania", label=None), config=with_shapes(shacl_max_triples=3))
    assert "shacl" not in found
    [(subject, detail)] = found["shacl_not_run"]
    assert subject == "atlas.ttl" and "has 7 statements, checks.shacl_max_triples is 3" in detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("this is no Turtle", "not a Turtle file"),
        (
            "@prefix sh: <http://www.w3.org/ns/shacl#> . <http://x/s> a sh:NodeShape ; sh:targetNode <http://x/a> ; "
            'sh:property [ sh:path "not a path" ; sh:minCount 1 ] .',
            "shapes.ttl",
        ),
    ],
)
def test_a_bad_file_of_shapes_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "shapes.ttl"
    if content is not None:
        path.write_text(content)
    config = make_config(checks={"shapes": [str(path)]})
    with pytest.raises(ConfigError, match=message) as error:
        find(tmp_path, [("http://x/a", "http://x/p", "http://x/b")], config=config)
    assert str(path) in str(error.value)
