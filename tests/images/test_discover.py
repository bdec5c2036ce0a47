"""Discovery as a stage: what stands in its two tables, in which order, and what its digest covers."""

import os
from pathlib import Path
from typing import Any

import pytest

from mmkg.config import ImagesConfig
from mmkg.images import discover as module
from mmkg.images.discover import ORIGINS, UNMATCHED_REASONS, discover, discovery_inputs
from mmkg.images.folders import find_file
from mmkg.terms import DBPEDIA_ONTOLOGY, FOAF, FREEBASE
from tests.images.named_graph import EXAMPLE, NamedGraph, put_files, run_discovery

PERU, CHAD, YEAR = EXAMPLE + "Peru", EXAMPLE + "Chad", EXAMPLE + "1984"
COUNTRY = EXAMPLE + "Country"
COMMONS = "http://commons.wikimedia.org/wiki/Special:FilePath/"


def _graph(raw: Any = ()) -> NamedGraph:
    return NamedGraph(
        {PERU: "Peru", CHAD: "Chad", YEAR: "1984"},
        types={PERU: [COUNTRY], CHAD: [COUNTRY], YEAR: [EXAMPLE + "Year"]},
        aliases={PERU: [FREEBASE + "m.016wzw", "http://www.wikidata.org/entity/Q419"]},
        raw=raw,
    )


def _images(tmp_path: Path, **settings: Any) -> ImagesConfig:
    """Every origin at once."""
    put_files(tmp_path / "mapped", ["pe.png", "xx.png"])
    put_files(tmp_path / "named", ["peru.jpg", "chad.jpg", "1984.jpg"])
    (tmp_path / "map.tsv").write_text("file\tentity\npe\tQ419\n", encoding="utf-8")
    (tmp_path / "urls.txt").write_text("/m/016wzw\thttp://example.org/peru.jpg\n", encoding="utf-8")
    folders = [
        {"path": str(tmp_path / "mapped"), "mapping": str(tmp_path / "map.tsv"), "licence": "CC0", "author": "Ann"},
        {"path": str(tmp_path / "named"), "types": [COUNTRY]},
    ]
    urls = {"url_lists": [str(tmp_path / "urls.txt")]}
    return ImagesConfig.model_validate({"from_graph": True, "folders": folders} | urls | settings)


RAW = [
    (PERU, FOAF + "depiction", COMMONS + "Flag_of_Peru.svg"),
    (PERU, DBPEDIA_ONTOLOGY + "thumbnail", COMMONS + "Lima.jpg?width=300"),
    (PERU, "http://schema.org/image", '"https://example.org/llama.jpg'),
    (YEAR, FOAF + "depiction", COMMONS + "1984.jpg"),
]


def test_candidates_stand_in_the_order_of_their_origins(tmp_path: Path) -> None:
    found = run_discovery(_images(tmp_path), _graph(RAW), tmp_path)
    of_peru = [row for row in found.candidates if row["entity_id"] == PERU]
    assert [row["origin"] for row in of_peru] == list(ORIGINS)
    assert [row["place"] for row in of_peru] == list(range(6))
    assert [row["entity_index"] for row in found.candidates] == sorted(row["entity_index"] for row in found.candidates)
    assert (found.counts["candidates"], found.counts["entities_with_candidates"]) == (8, 3)
    assert all(found.counts[f"from_{origin}"] >= 1 for origin in ORIGINS)


def test_a_candidate_says_where_it_is_from_and_whose_it_is(tmp_path: Path) -> None:
    found = run_discovery(_images(tmp_path), _graph(), tmp_path)
    rows = {row["origin"]: row for row in found.candidates if row["entity_id"] == PERU}
    mapped, named = rows["mapping"], rows["name"]
    assert (mapped["url"], mapped["licence"], mapped["author"]) == ("folder:mapped/pe.png", "CC0", "Ann")
    assert mapped["detail"] == "map.tsv:2: Q419 = http://www.wikidata.org/entity/Q419 (id)"
    assert (named["url"], named["licence"], named["detail"]) == ("folder:named/peru.jpg", None, "peru = Peru (folded)")
    assert find_file(_images(tmp_path), named["url"]) == tmp_path / "named" / "peru.jpg"


def test_what_became_no_candidate_has_a_reason(tmp_path: Path) -> None:
    found = run_discovery(_images(tmp_path), _graph(), tmp_path)
    assert found.reasons() == {"xx.png": "no_name", "1984.jpg": "other_type"}
    assert {row["reason"] for row in found.unmatched} <= set(UNMATCHED_REASONS)
    assert found.counts["unmatched"] == sum(n for name, n in found.counts.items() if name.startswith("unmatched_"))


def test_a_list_without_a_good_line_is_not_held_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, put = [], module.put_unmatched
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    monkeypatch.setattr(module, "put_unmatched", lambda graph, rows: (held.append(len(rows)), put(graph, rows)))
    (tmp_path / "urls.txt").write_text("".join(f"bad line {n}\n" for n in range(8)), encoding="utf-8")
    found = run_discovery(ImagesConfig(url_lists=(str(tmp_path / "urls.txt"),)), _graph(), tmp_path)
    assert (found.counts["unmatched_bad_line"], max(held)) == (8, 3)


def test_names_that_are_no_text_have_a_reason(tmp_path: Path) -> None:
    images = _images(tmp_path)
    (tmp_path / "named" / os.fsdecode(b"caf\xe9.png")).touch()
    (tmp_path / "map.json").write_text('{"pe": "\\ud800"}', encoding="utf-8")
    mapped = images.folders[0].model_copy(update={"mapping": str(tmp_path / "map.json")})
    images = images.model_copy(update={"folders": (mapped, images.folders[1])})
    found = run_discovery(images, _graph(), tmp_path)
    rows = {row["place"]: (row["name"], row["reason"]) for row in found.unmatched}
    assert rows[r"folder:named/caf\udce9.png"] == (r"caf\udce9.png", "bad_name")
    assert rows["folder:mapped/pe.png"] == ("?", "no_entity")


def test_entities_that_are_not_visual_are_not_asked(tmp_path: Path) -> None:
    images = _images(tmp_path, not_visual_types=[EXAMPLE + "Year"])
    found = run_discovery(images, _graph(RAW), tmp_path)
    assert found.urls(YEAR) == []
    assert [(row["place"], row["name"], row["detail"]) for row in found.unmatched if row["reason"] == "not_visual"] == [
        (YEAR, "1984", "has one of not_visual_types; 1 candidates left out")
    ]
    only = run_discovery(_images(tmp_path, types=[EXAMPLE + "Year"]), _graph(RAW), tmp_path)
    assert {row["entity_id"] for row in only.candidates} == {YEAR}
    assert {row["place"] for row in only.unmatched if row["reason"] == "not_visual"} == {PERU, CHAD}


def test_an_entity_is_asked_so_often_at_most(tmp_path: Path) -> None:
    found = run_discovery(_images(tmp_path, max_per_entity=2), _graph(RAW), tmp_path)
    assert [row["origin"] for row in found.candidates if row["entity_id"] == PERU] == ["depiction", "thumbnail"]
    assert [(row["place"], row["detail"]) for row in found.unmatched if row["reason"] == "too_many"] == [
        (PERU, "4 candidates beyond the first 2 left out")
    ]


def test_one_address_of_two_entities_is_a_candidate_of_each(tmp_path: Path) -> None:
    raw = [(iri, FOAF + "depiction", COMMONS + "Flag_of_Peru.svg") for iri in (PERU, CHAD)]
    found = run_discovery(ImagesConfig(from_graph=True), _graph(raw), tmp_path)
    assert found.urls(PERU) == found.urls(CHAD)
    assert len(found.candidates) == 2


def test_files_of_one_name_on_two_wikis_are_two_candidates(tmp_path: Path) -> None:
    # DBpedia states of all files that they are on Commons; those that are not free lie in a wiki.
    upload = "https://upload.wikimedia.org/wikipedia"
    (tmp_path / "urls.txt").write_text(f"Q419\t{upload}/en/c/cf/Flag_of_Peru.svg\n", encoding="utf-8")
    images = ImagesConfig(from_graph=True, url_lists=(str(tmp_path / "urls.txt"),))
    urls = run_discovery(images, _graph(RAW[:1]), tmp_path).urls(PERU)
    assert [url.removeprefix(f"{upload}/").partition("/")[0] for url in urls] == ["commons", "en"]


def test_ids_match_whether_http_or_https(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("<https://www.wikidata.org/entity/Q419>\thttp://a.org/1.jpg\n", encoding="utf-8")
    images = ImagesConfig(url_lists=(str(tmp_path / "urls.txt"),))
    assert run_discovery(images, _graph(), tmp_path).urls(PERU) == ["http://a.org/1.jpg"]


def test_nothing_asked_for_gives_two_empty_tables(tmp_path: Path) -> None:
    found = run_discovery(ImagesConfig(), _graph(RAW), tmp_path)
    assert (found.candidates, found.unmatched) == ([], [])
    assert found.counts == {"candidates": 0, "entities_with_candidates": 0, "unmatched": 0}


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    images, graph = _images(tmp_path), _graph(RAW).write(tmp_path / "graph")
    contents = []
    for name in ("one", "two"):
        discover(images, graph, [graph], tmp_path / name)
        contents.append(
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        )
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2  # and nothing else is left behind


@pytest.mark.parametrize("change", ["picture", "mapping", "list"])
def test_the_digest_covers_lists_mappings_and_names_of_files(tmp_path: Path, change: str) -> None:
    images = _images(tmp_path)
    before = discovery_inputs(images)
    assert before == discovery_inputs(images)
    if change == "picture":
        put_files(tmp_path / "named", ["new.png"])
    else:
        path = tmp_path / ("map.tsv" if change == "mapping" else "urls.txt")
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    after = discovery_inputs(images)
    assert [name for name in before if before[name] != after[name]] == [
        {"picture": "folder named", "mapping": "mapping mapped", "list": "list urls.txt"}[change]
    ]
