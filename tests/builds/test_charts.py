"""The plots show the numbers they are given: read back from the axes, not from pixels."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from mmkg import open_build, pipeline
from mmkg.builds import read_build_manifest
from mmkg.builds.charts import (
    VersionCounts,
    count_reasons,
    draw_history,
    draw_movers,
    draw_rejects,
    read_history,
    shorten,
    to_png,
    write_charts,
)
from mmkg.builds.compare import Difference, RelationChange, find_differences
from mmkg.config import read_config
from tests.graph_config import write_small_graph


def version(number: int, **changes: Any) -> VersionCounts:
    counts = VersionCounts(
        version=f"{number:04d}-abc",
        created="2026-01-01T03:00:00+00:00",
        served=False,
        passed=True,
        entities=10 * number,
        triples=1000 * number,
        literals=5,
        rejects=0,
    )
    return dataclasses.replace(counts, **changes)


def moved(relations: list[RelationChange]) -> Difference:
    return Difference(
        old_version="0001-a",
        new_version="0002-b",
        tables={},
        relations=tuple(relations),
        sources=(),
        examples=(),
        changed_dumps=(),
    )


def change(name: str, added: int, removed: int) -> RelationChange:
    return RelationChange(
        kind="relation", relation_id=f"http://x/{name}", before=100, after=100, added=added, removed=removed
    )


def ticks(labels: list[Any]) -> list[str]:
    return [label.get_text() for label in labels]


def test_the_history_has_a_panel_for_each_count_and_crosses_what_was_stopped() -> None:
    history = [version(1), version(2, passed=False, triples=1), version(3, served=True)]
    figure = draw_history("atlas", history)
    assert figure.get_suptitle() == "atlas: what its versions hold (served: 0003-abc; ×: stopped by its checks)"
    panels = {ax.get_title(): ax for ax in figure.axes}
    assert list(panels) == ["entities", "triples", "literals", "rejected lines"]
    line, crosses = panels["triples"].lines
    assert list(line.get_ydata()) == [1000, 1, 3000]
    assert (list(crosses.get_xdata()), list(crosses.get_ydata()), crosses.get_marker()) == ([1], [1], "x")
    for ax in panels.values():
        assert ticks(ax.get_xticklabels()) == ["0001", "0002", "0003"]
        assert ax.get_xlabel() == "version" and ax.get_ylabel() in {"count", "lines"}
    assert panels["triples"].get_ylim()[0] == 0  # they differ much: the axis starts at nothing


def test_of_many_versions_every_few_are_named() -> None:
    ax = draw_history("atlas", [version(number) for number in range(1, 31)]).axes[0]
    assert ticks(ax.get_xticklabels()) == [f"{number:04d}" for number in range(1, 31, 3)]


def test_a_small_change_of_a_large_count_is_still_seen() -> None:
    figure = draw_history("atlas", [version(1, triples=1_000_000), version(2, triples=1_005_000)])
    low, high = figure.axes[1].get_ylim()
    assert low > 900_000 and 5000 / (high - low) > 0.1
    assert figure.axes[1].yaxis.get_major_formatter()(1_000_000, 0) == "1,000,000"


def test_movers_are_bars_to_both_sides_biggest_on_top() -> None:
    movers = [change("capital", 30, 12), change("border", 0, 9), change("other", 1, 0), change("still", 0, 0)]
    figure = draw_movers(moved(movers), max_relations=2)
    [ax] = figure.axes
    assert ticks(ax.get_yticklabels()) == ["border", "capital"]  # from below
    added, removed = ax.containers
    assert [bar.get_width() for bar in added] == [0, 30]
    assert [bar.get_width() for bar in removed] == [-9, -12]
    assert {"30", "9", "12"} <= {text.get_text() for text in ax.texts}
    assert ax.get_ylabel() == "and 1 more"
    assert "0002-b against 0001-a" in figure.get_suptitle() and "statements" in ax.get_xlabel()
    assert ticks(figure.legends[0].get_texts()) == ["added", "removed"]
    assert ax.xaxis.get_major_formatter()(-1234, 0) == "1,234"


def test_two_relations_with_one_short_name_keep_a_bar_each() -> None:
    relations = [change("a/name", 3, 0), change("b/name", 2, 0)]
    [ax] = draw_movers(moved(relations)).axes
    assert ticks(ax.get_yticklabels()) == ["name", "name"]
    assert [bar.get_y() + bar.get_height() / 2 for bar in ax.containers[0]] == [0, 1]


def test_rejects_are_bars_by_reason() -> None:
    figure = draw_rejects("atlas", "0001-a", {"syntax": 1200, "not_utf8": 3})
    [ax] = figure.axes
    assert ticks(ax.get_yticklabels()) == ["not_utf8", "syntax"]
    assert [bar.get_width() for bar in ax.containers[0]] == [3, 1200]
    assert figure.get_suptitle() == "atlas 0001-a: 1,203 rejected lines by reason"
    assert {text.get_text() for text in ax.texts} == {"3", "1,200"}


def test_nothing_to_show_is_said_in_words() -> None:
    for figure, words in (
        (draw_movers(moved([change("still", 0, 0)])), "no statement came or went"),
        (draw_rejects("atlas", "0001-a", {}), "every line was accepted"),
        (draw_history("atlas", []), None),
    ):
        assert to_png(figure).startswith(b"\x89PNG")
        if words:
            assert words in {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize(
    ("iri", "name"),
    [
        ("http://www.w3.org/2000/01/rdf-schema#label", "label"),
        ("http://rdf.freebase.com/ns/location.location.adjoins", "location.location.adjoins"),
        ("http://x/" + "y" * 60, "…" + "y" * 47),
        ("plain", "plain"),
    ],
)
def test_names_are_short_enough_to_read(iri: str, name: str) -> None:
    assert shorten(iri) == name


def test_a_real_build_gives_three_pictures_of_its_own_numbers(tmp_path: Path) -> None:
    config = write_small_graph(tmp_path)
    first = pipeline.build(read_config(config))
    with (tmp_path / "dbpedia.nt").open("a", encoding="utf-8") as dump:
        dump.write("<http://x/a> <http://x/p> <http://x/b> .\nnot a statement\n")
    second = pipeline.build(read_config(config))
    root = tmp_path / "builds" / "small"
    assert first.folder and second.folder and second.version
    history = read_history(root)
    assert [(c.entities, c.triples, c.rejects, c.served) for c in history] == [(4, 3, 1, False), (6, 4, 2, True)]
    assert sum(count_reasons(read_build_manifest(second.folder)).values()) == 2
    with open_build(str(first.folder)) as old, open_build(str(second.folder)) as new:
        paths = write_charts(root, second.version, tmp_path / "charts", find_differences(old, new))
    assert [path.name for path in paths] == ["history.png", "movers.png", "rejects.png"]
    for path in paths:
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 200 and pixels.std() > 0.05  # something is drawn
