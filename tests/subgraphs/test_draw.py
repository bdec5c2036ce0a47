"""The picture: it is written, whole, readable, and says what it leaves out."""

import io
import re
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from mmkg.errors import MmkgError
from mmkg.subgraphs import Adjacency, Subgraph, draw_subgraph, expand
from mmkg.subgraphs.draw import MAX_DRAWN_NODES
from mmkg.subgraphs.layout import radial_layout, shorten

from .reference import adjacency_of

RELATION_LABELS = ["precedes", "jumps to"]


def names_of(subgraph: Subgraph) -> list[str]:
    return [f"entity {index}" for index in subgraph.node_index]


def texts_of(svg: str) -> list[str]:
    """What is written in the picture; matplotlib keeps each text as a comment beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", svg)


def draw_svg(subgraph, tmp_path, labels=None, relation_labels=None, **options) -> list[str]:
    path = draw_subgraph(subgraph, labels or names_of(subgraph), relation_labels, tmp_path / "picture.svg", **options)
    return texts_of(path.read_text(encoding="utf-8"))


def test_a_png_is_written_and_no_figure_stays_open(chain, tmp_path):
    subgraph = expand(chain, [0], num_hops=2)
    path = draw_subgraph(subgraph, names_of(subgraph), RELATION_LABELS, tmp_path / "deep" / "chain.png")
    image = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    # Nothing is cut off at the edge of the paper.
    for border in (image[:3], image[-3:], image[:, :3], image[:, -3:]):
        assert (border == 255).all()
    assert [p.name for p in path.parent.iterdir()] == ["chain.png"]
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


@pytest.mark.parametrize("max_nodes", [10, 40, 150])
def test_nothing_is_cut_off_however_many_nodes(skewed, tmp_path, max_nodes):
    subgraph = expand(skewed, [3], num_hops=3, max_neighbours=8, max_nodes=max_nodes)
    assert subgraph.num_nodes == max_nodes
    path = draw_subgraph(subgraph, names_of(subgraph), [str(i) for i in range(7)], tmp_path / "picture.png")
    image = np.asarray(Image.open(path).convert("RGB"))
    for border in (image[:3], image[-3:], image[:, :3], image[:, -3:]):
        assert (border == 255).all()


def test_every_node_and_every_relation_is_written(chain, tmp_path):
    subgraph = expand(chain, [0], num_hops=4)
    texts = draw_svg(subgraph, tmp_path, relation_labels=RELATION_LABELS)
    for name in names_of(subgraph):
        assert name in texts
    assert texts.count("precedes") == 3
    assert texts.count("jumps to") == 3  # 1 -> 3, 2 -> 3 and the loop at 4
    assert "entity 0: 4 hops, 5 nodes, 6 edges" in texts
    assert "hop 3 (1)" in texts


def test_parallel_triples_are_one_arrow_with_a_count(tmp_path):
    subgraph = expand(adjacency_of(2, [(0, 0, 1), (0, 1, 1), (0, 1, 1)]), [0], num_hops=1)
    assert "precedes +2" in draw_svg(subgraph, tmp_path, relation_labels=RELATION_LABELS)


def test_relations_are_not_written_when_edges_are_many(skewed, tmp_path):
    subgraph = expand(skewed, [3], num_hops=2, max_neighbours=8, max_nodes=80)
    texts = draw_svg(subgraph, tmp_path, relation_labels=[f"relation {i}" for i in range(7)])
    assert not [text for text in texts if text.startswith("relation")]


def test_what_is_not_drawn_is_said(skewed, tmp_path):
    subgraph = expand(skewed, [3], num_hops=3)
    assert subgraph.num_nodes > MAX_DRAWN_NODES
    texts = draw_svg(subgraph, tmp_path, max_drawn_nodes=30)
    note = next(text for text in texts if text.startswith("Drawn"))
    assert note.startswith(f"Drawn: the nearest 30 of {subgraph.num_nodes:,} nodes")
    assert "entity 3" in texts
    assert sum(text.startswith("entity") and ":" not in text for text in texts) == 30


def test_caps_are_said(hub, tmp_path):
    texts = draw_svg(expand(hub, [0], num_hops=1, max_neighbours=6, max_nodes=5), tmp_path)
    assert "Cut by max_neighbours at 1 node: 14 edges not followed." in texts
    assert "Cut by max_nodes at 1 node: 2 edges not followed." in texts


def test_labels_may_hold_dollars_newlines_and_any_script(tmp_path, caplog):
    subgraph = expand(adjacency_of(4, [(0, 0, 1), (0, 1, 2), (0, 1, 3)]), [0], num_hops=1)
    labels = ["$100 $ bill", "two\nlines", "東京都", "\U0001f1eb\U0001f1f7 <&>"]
    texts = draw_svg(subgraph, tmp_path, labels, ["a_b^c", "$x"])
    assert "$100 $ bill" in texts
    assert "two lines" in texts
    draw_subgraph(subgraph, labels, ["a_b^c", "$x"], tmp_path / "picture.png")


def test_indices_stand_in_for_labels_that_are_not_given(chain, tmp_path):
    path = draw_subgraph(expand(chain, [0], num_hops=1), None, None, tmp_path / "picture.svg")
    assert {"0", "1"} <= set(texts_of(path.read_text()))


def test_the_same_subgraph_gives_the_same_bytes(skewed, tmp_path):
    subgraph = expand(skewed, [3], num_hops=2, max_nodes=30)
    for name in ("one.svg", "two.svg", "one.png", "two.png"):
        draw_subgraph(subgraph, names_of(subgraph), None, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_drawing_works_in_a_thread(chain, tmp_path):
    subgraph = expand(chain, [0], num_hops=1)
    thread = threading.Thread(target=draw_subgraph, args=(subgraph, None, None, tmp_path / "picture.png"))
    thread.start()
    thread.join()
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_one_node_and_several_seeds_can_be_drawn(chain, tmp_path):
    assert "entity 5: 2 hops, 1 node, 0 edges" in draw_svg(expand(chain, [5], num_hops=2), tmp_path)
    texts = draw_svg(expand(chain, [0, 1, 2, 4], num_hops=1), tmp_path)
    assert "entity 0, entity 1, entity 2 and 1 more: 1 hop, 5 nodes, 6 edges" in texts


@pytest.mark.parametrize(
    ("seeds", "name", "labels", "options", "message"),
    [
        ([0], "picture.pdf", None, {}, r"ends in \.png or \.svg, not '\.pdf'"),
        ([0], "picture", None, {}, "not ''"),
        ([], "picture.png", None, {}, "nothing to draw"),
        ([0], "picture.png", ["one"], {}, "one for each of the 2 nodes"),
        ([0], "picture.png", None, {"max_drawn_nodes": 0}, "max_drawn_nodes: expected 1 or more"),
    ],
)
def test_what_cannot_be_drawn_is_our_error(chain, tmp_path, seeds, name, labels, options, message):
    with pytest.raises(MmkgError, match=message):
        draw_subgraph(expand(chain, seeds, num_hops=1), labels, None, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


# --- layout ----------------------------------------------------------------------------------------------------------


def test_a_node_stands_on_the_ring_of_its_hop(skewed):
    subgraph = expand(skewed, [3], num_hops=3, max_neighbours=6, max_nodes=120)
    layout = radial_layout(subgraph, 120, np.full(120, 0.8), upright=False)
    distance = np.hypot(*layout.position.T)
    np.testing.assert_allclose(distance, np.array(layout.ring_radius)[subgraph.hop], atol=1e-9)
    assert all(outer > inner for inner, outer in pairwise(layout.ring_radius))


@pytest.mark.parametrize("seeds", [[3], [3, 5, 8]])
def test_labels_of_one_ring_do_not_touch(skewed: Adjacency, seeds):
    subgraph = expand(skewed, seeds, num_hops=2, max_neighbours=12, max_nodes=150)
    layout = radial_layout(subgraph, subgraph.num_nodes, np.full(subgraph.num_nodes, 0.8), upright=False)
    for hop in (1, 2):
        place = layout.position[subgraph.hop == hop]
        apart = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1))
        np.fill_diagonal(apart, np.inf)
        assert apart.min() > 0.15, "inches; a line of 8 points is 0.11 high"


def test_a_long_label_is_cut_with_an_ellipsis():
    assert shorten("x" * 26) == "x" * 26
    assert shorten("x" * 27) == "x" * 25 + "…"
    assert shorten("  many \n spaces ") == "many spaces"
