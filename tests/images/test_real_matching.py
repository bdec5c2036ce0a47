"""Real pictures and the graph of FB15k-237, DB15K and YAGO15K: how many of them are matched, and how many rightly."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmkg.config import Config, ImagesConfig, PictureFolderConfig, parse_config, read_config
from mmkg.graph.build import build_graph
from mmkg.images.discover import discover
from mmkg.sources import find_dumps, read_dump, read_links
from tests.images.real_pictures import EXAMPLE, NOT_IN_TABLE, Picture, read_matches, read_table, score_matches

pytestmark = [pytest.mark.shared, pytest.mark.slow]

UNKNOWN_BY_THESE_NAMES = {  # the graph has them by other names only
    *("Brunei Darussalam", "Russian Federation", "Syrian Arab Republic", "Virgin Islands, U.S.", "Korea, Republic of"),
    *("North Macedonia", "Kingdom of Eswatini", "Republic of Türkiye", "Holy See (Vatican City State)"),
    "Europe",  # the flag of the European Union, as that of no country
}


@dataclass(frozen=True)
class Real:
    graph: Path
    config: Config
    shared: Path
    work: Path

    def discover(self, images: ImagesConfig, name: str) -> dict[str, str]:
        """MID or other IRI by the picture's path below the shared data."""
        discover(images, self.graph, [], self.work / name)
        return read_matches(images, self.graph, self.work / name, self.shared)

    def reasons(self, name: str) -> dict[str, str]:
        rows = pq.read_table(self.work / name / "image_unmatched").to_pylist()
        return {row["name"]: row["reason"] for row in rows}


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Real:
    folder = tmp_path_factory.mktemp("real")
    (folder / "data").symlink_to(shared_data)
    (folder / EXAMPLE.name).write_bytes(EXAMPLE.read_bytes())
    config = read_config(folder / EXAMPLE.name)
    read_folders, link_folders = [], []
    for number, source in enumerate(config.sources):
        for dump in find_dumps(source.paths):
            read_folders.append(folder / f"source-{number}-{dump.name}")
            read_dump(source, dump, dump.name, read_folders[-1])
    for link in config.links:
        for dump in find_dumps(link.paths):
            link_folders.append(folder / f"link-{dump.name}")
            read_links(link, dump, dump.name, link_folders[-1])
    build_graph(config, read_folders, link_folders, folder / "graph")
    return Real(folder / "graph", config, shared_data, folder)


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[Picture]:
    return read_table(shared_data)


@pytest.fixture(scope="module")
def with_types(real: Real) -> dict[str, str]:
    return real.discover(real.config.images, "with_types")


def test_the_example_finds_nearly_all_pictures_and_errs_in_none(
    real: Real, pictures: list[Picture], with_types: dict[str, str]
) -> None:
    score = score_matches(pictures, with_types)
    assert (score.pictures, score.known) == (860, 259)
    others = {p.path: with_types[p.path] for p in pictures if p.path in with_types and with_types[p.path] != p.mid}
    assert others == NOT_IN_TABLE
    assert score.right == 249  # recall 0.961; precision 0.984 by the table, 1 by the graph
    assert score.matched == score.right + score.right_by_graph == 253
    missed = {picture.label for picture in pictures if picture.mid and picture.path not in with_types}
    assert missed == UNKNOWN_BY_THESE_NAMES


def test_no_homonym_is_matched(real: Real, pictures: list[Picture], with_types: dict[str, str]) -> None:
    homonyms = [picture for picture in pictures if picture.is_homonym]
    assert len(homonyms) == 10
    assert not {picture.path for picture in homonyms} & set(with_types)
    reasons = real.reasons("with_types")
    assert {reasons[picture.label.replace("_", " ")] for picture in homonyms} == {"other_type"}


def test_states_are_told_from_countries_and_cities_of_their_name(with_types: dict[str, str]) -> None:
    states = {
        name: with_types[f"images/us_states/landscape/{name}.jpg"] for name in ("georgia", "new-york", "washington")
    }
    assert states == {"georgia": "m.0d0x8", "new-york": "m.059rby", "washington": "m.081yw"}
    assert with_types["images/us_states/flag/georgia.png"] == "m.0d0x8"


def test_logos_are_of_software_and_not_of_films_and_fruits(real: Real, with_types: dict[str, str]) -> None:
    logos = {Path(path).stem for path in with_types if "/logos/" in path}
    assert logos == {
        *("c", "cpp", "csharp", "google", "haskell", "ios", "java", "javascript", "lisp", "microsoft", "nasa", "perl"),
        *("php", "python", "unipi", "university-of-texas-arlington"),
    }
    reasons = real.reasons("with_types")
    assert {reasons[name] for name in ("Apple", "Argo", "Babel", "Hugo", "Matrix", "Playwright")} == {"other_type"}


def test_without_types_much_is_left_and_nothing_is_wrong(real: Real, pictures: list[Picture]) -> None:
    folders = tuple(folder.model_copy(update={"types": ()}) for folder in real.config.images.folders)
    found = real.discover(real.config.images.model_copy(update={"folders": folders}), "without_types")
    by_path = {picture.path: picture for picture in pictures}
    assert not any(by_path[path].is_homonym for path in found if path in by_path)
    wrong = {path for path, entity in found.items() if path not in by_path or entity != by_path[path].mid}
    # YAGO15K has Estonia, which Freebase's 237 relations do not touch
    assert wrong == {"images/country_flags/gg.png", "images/country_flags/kg.png", "images/country_flags/ee.png"}
    assert len(found) - len(wrong) == 217  # recall 0.84
    assert real.reasons("without_types")["cello"] == "untrusted"


def test_ids_in_a_mapping_find_every_picture(real: Real, pictures: list[Picture]) -> None:
    folder = PictureFolderConfig(
        path=str(real.shared),
        name="shared",
        files=("images/**/*", "tasks/mars/images/*/*"),
        mapping=str(real.shared / "images" / "gold_image_entity.tsv"),
        file_column="path",
        entity_column="fb_mid",
    )
    found = real.discover(ImagesConfig(folders=(folder,)), "ids")
    assert found == {picture.path: picture.mid for picture in pictures if picture.mid}


def test_depictions_of_dbpedia_become_standard_thumbnails(shared_data: Path, tmp_path: Path) -> None:
    dump = shared_data / "kg" / "dbpedia" / "dbpedia-2015-10-entities-a.nt.gz"
    settings = {"graph": {"name": "a"}, "sources": [{"kind": "dbpedia", "paths": [str(dump)]}]}
    config = parse_config(settings | {"images": {"from_graph": True}}, tmp_path / "a.toml")
    read_dump(config.sources[0], dump, dump.name, tmp_path / "read")
    build_graph(config, [tmp_path / "read"], [], tmp_path / "graph")
    counts = discover(config.images, tmp_path / "graph", [tmp_path / "read"], tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "image_candidates").to_pylist()
    # 15 things with a depiction and a thumbnail of the same file, and one depicted by a lake that is no picture
    assert counts == {"candidates": 15, "entities_with_candidates": 15, "from_depiction": 15} | {
        "unmatched": 1,
        "unmatched_not_a_picture_url": 1,
    }
    assert all("/330px-" in row["url"] and row["url"].startswith("https://upload.wikimedia.org/") for row in rows)
    assert sum("/wikipedia/en/" in row["url"] for row in rows) == 2
    assert {row["file_name"] for row in rows} >= {"St Peter's, Kings Ripton - geograph.org.uk - 839692.jpg"}
