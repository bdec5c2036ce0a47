from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError, MmkgError, NotFound
from mmkg.subgraphs.assemble import NodeKind
from mmkg.subgraphs.batch_multimodal import batch_multimodal
from mmkg.subgraphs.pages import PAGE_RELATIONS, find_pictures, page_subgraph, picture_name
from mmkg.tasks.wikiweb2m import Page, Section, SectionImage, read_pages
from mmkg.tasks.wikiweb2m_samples import section_samples


def image(name, caption="", image_index=0):
    return SectionImage(image_index=image_index, file=f"{name}.jpg", caption=caption)


def section(index, parent, *images):
    return Section(
        index=index,
        title=f"title {index}",
        depth=0 if parent is None else 1,
        parent=parent,
        text="",
        first_sentence=f"first {index}.",
        rest=f"rest {index}.",
        images=images,
    )


def page_of(*sections, description="about"):
    return Page(page_id=7, title="Page", url="", sections=sections, description=description)


@pytest.fixture
def page():
    """0 lead, a picture with caption; 1 below 0, two pictures, no caption; 2 below 1; 3 below 0, caption; 4 below 3."""
    return page_of(
        section(0, None, image("a", "caption a")),
        section(1, 0, image("b"), image("b2", "caption b2", 1)),
        section(2, 1),
        section(3, 0, image("d", "caption d")),
        section(4, 3),
    )


def named_edges(built):
    subgraph = built.subgraph
    names = [key.removeprefix("7/").removeprefix("7_") for key in subgraph.keys]
    ends = zip(subgraph.src_E.tolist(), subgraph.relation_E.tolist(), subgraph.dst_E.tolist(), strict=True)
    return Counter((names[src], PAGE_RELATIONS[relation], names[dst]) for src, relation, dst in ends)


OF_HISTORY = {  # section 1 of the page
    ("1", "page", "page"),
    ("page", "next", "0"),
    ("0", "caption", "0/caption"),
    ("0/caption", "next", "2"),
    ("2", "next", "3"),
    ("3", "caption", "3/caption"),
    ("3/caption", "next", "4"),
    ("0", "child", "1"),
    ("1", "child", "2"),
    ("0", "child", "3"),
    ("3", "child", "4"),
    ("1_0", "image of", "1"),
    ("0_0", "image of", "0"),
    ("3_0", "image of", "3"),
    ("0_0", "next image", "3_0"),
    ("1_0", "nearest image", "0_0"),
}


@pytest.mark.capability("G4-01")
def test_a_page_drawn_by_hand_gives_its_edges_each_once(page):
    built = page_subgraph(page, 1)
    assert named_edges(built) == Counter(OF_HISTORY)
    subgraph = built.subgraph
    assert subgraph.labels == (
        "rest 1.", "Page, about", "first 0. rest 0.", "caption a", "first 2. rest 2.", "first 3. rest 3.", "caption d",
        "first 4. rest 4.", "b.jpg", "a.jpg", "d.jpg",
    )  # fmt: skip
    assert subgraph.kind_N.tolist() == [NodeKind.ENTITY] * 8 + [NodeKind.IMAGE] * 3
    assert built.sections == (1, None, 0, 0, 2, 3, 3, 4, 1, 0, 3)
    assert (subgraph.num_seeds, subgraph.num_relations, len(PAGE_RELATIONS)) == (1, 8, 8)
    assert built.first_sentence == "first 1."
    assert (built.num_cut_texts, built.num_cut_images, built.num_far_texts, built.num_far_images) == (0, 0, 0, 0)


@pytest.mark.capability("G4-01")
def test_the_targets_caption_stands_behind_the_page_and_is_not_in_the_chain(page):
    built = page_subgraph(page, 3)
    assert [key.removeprefix("7/") for key in built.subgraph.keys[:5]] == ["3", "page", "3/caption", "0", "0/caption"]
    edges = named_edges(built)
    assert edges[("3", "caption", "3/caption")] == edges[("0/caption", "next", "1")] == edges[("2", "next", "4")] == 1
    assert not any("3/caption" in (src, dst) for src, relation, dst in edges if relation == "next")


@pytest.mark.capability("G4-01")
def test_two_pictures_as_near_are_both_nearest_and_a_target_without_picture_has_an_empty_slot(page):
    built = page_subgraph(page, 2)  # 1 and 3 have pictures
    of_images = {edge for edge in named_edges(built) if edge[1] in ("next image", "nearest image", "image of")}
    assert of_images == {
        ("2_none", "image of", "2"),
        ("0_0", "image of", "0"),
        ("1_0", "image of", "1"),
        ("3_0", "image of", "3"),
        ("0_0", "next image", "1_0"),
        ("1_0", "next image", "3_0"),
        ("2_none", "nearest image", "1_0"),
        ("2_none", "nearest image", "3_0"),
    }


@pytest.mark.capability("G4-01")
def test_a_page_without_pictures_has_no_image_node(page):
    built = page_subgraph(page_of(*(section(index, None if index == 0 else 0) for index in range(3))), 1)
    assert not built.subgraph.is_image.any()
    assert (built.images, built.subgraph.num_nodes) == ((), 4)
    alone = page_subgraph(page_of(section(0, None), description=""), 0)
    assert (named_edges(alone), alone.subgraph.labels) == ({("0", "page", "page"): 1}, ("rest 0.", "Page"))


def test_no_node_holds_the_sentence_that_is_to_be_written(page):
    whole = page_of(*page.sections, description="So it is:  First 1. And more.")
    hidden, shown = page_subgraph(whole, 1), page_subgraph(whole, 2)
    assert (hidden.description_hidden, hidden.subgraph.labels[1]) == (True, "Page")
    assert (shown.description_hidden, shown.subgraph.labels[1]) == (False, "Page, So it is:  First 1. And more.")
    for target in range(5):
        labels = page_subgraph(page, target).subgraph.labels
        assert not any(f"first {target}." in (label or "") for label in labels)


@pytest.mark.capability("G4-05")
def test_image_nodes_line_up_with_images_and_what_is_missing_is_masked(page):
    text = {"rest 2.": np.array([1.0, 2.0], np.float32)}
    pictures = {"b.jpg": np.array([3.0, 4.0], np.float32), "d.jpg": np.array([5.0, 6.0], np.float32)}
    built = page_subgraph(page, 2, text_vectors=text, image_vectors=pictures.get, dimension=2)
    subgraph = built.subgraph
    places = np.flatnonzero(subgraph.is_image)
    assert [None if each is None else each.file for each in built.images] == [None, "a.jpg", "b.jpg", "d.jpg"]
    assert [built.sections[place] for place in places] == [2, 0, 1, 3]
    assert subgraph.has_vector_N[places].tolist() == [False, False, True, True]
    for place, each in zip(places, built.images, strict=True):
        expected = pictures.get(each.file, np.zeros(2)) if each else np.zeros(2)
        np.testing.assert_array_equal(subgraph.vector_ND[place], expected)
    # the image graph by itself has the same images in the same order, and their own edges only
    alone = subgraph.image_subgraph(lent=False)
    assert alone.keys == tuple(subgraph.keys[place] for place in places)
    ends = zip(alone.src_E.tolist(), alone.relation_E.tolist(), alone.dst_E.tolist(), strict=True)
    assert {(src, PAGE_RELATIONS[relation], dst) for src, relation, dst in ends} == {
        (1, "next image", 2),
        (2, "next image", 3),
        (0, "nearest image", 2),
        (0, "nearest image", 3),
    }
    assert {built.sections[src]: built.sections[dst] for src, dst in subgraph.entity_of_image.items()} == {
        2: 2, 0: 0, 1: 1, 3: 3,
    }  # fmt: skip
    batch = batch_multimodal([subgraph])
    assert batch.picture_K.tolist() == []  # no section that has a picture's vector has one of its own


def test_a_subgraph_needs_no_vectors_and_refuses_those_of_another_length(page):
    built = page_subgraph(page, 1)
    assert built.subgraph.vector_ND.shape == (11, 0)
    assert not built.subgraph.has_vector_N.any()
    assert batch_multimodal([built.subgraph, page_subgraph(page, 2).subgraph]).num_graphs == 2
    with pytest.raises(MmkgError, match=r"7/1: expected a vector of 3 numbers, found shape \(2,\)"):
        page_subgraph(page, 1, text_vectors=lambda text: np.zeros(2, np.float32), dimension=3)


def test_the_picture_of_a_section_is_its_first_or_the_chosen_one(page):
    second = page.sections[1].images[1]
    built = page_subgraph(page, 1, chosen={1: second})
    assert built.images[0] == second
    assert built.subgraph.labels[2] == "caption b2"
    assert built.subgraph.keys[-3] == "7_1_1"


def test_pictures_of_a_folder_are_found_by_page_section_and_image(page, tmp_path):
    for name in ("7_0_0.png", "7_1_1.jpg", "7_3_0.jpg", "8_2_0.jpg"):
        (tmp_path / name).touch()
    found = find_pictures(tmp_path, page)
    assert {place: (each.image.file, each.path.name) for place, each in found.items()} == {
        1: ("b2.jpg", "7_1_1.jpg"),
        3: ("d.jpg", "7_3_0.jpg"),
    }
    (tmp_path / "7_1_0.jpg").touch()
    assert find_pictures(tmp_path, page)[1].image.file == "b.jpg"
    assert picture_name(12, 3, SectionImage(image_index=2, file="x/../a.b/c")) == "12_3_2."


def test_what_names_no_target_is_refused(page):
    for target in (-1, 5):
        with pytest.raises(NotFound, match=f"sections 0 to 4, found {target}"):
            page_subgraph(page, target)
    for bad in ({"max_text": 0}, {"max_images": -1}, {"num_hops": -1}):
        with pytest.raises(ConfigError, match="expected max_text >= 1"):
            page_subgraph(page, 0, **bad)


@pytest.mark.capability("G4-04")
def test_the_nearest_are_kept_and_then_page_order_and_cuts_are_counted(page):
    # text hops from section 1: page 1, section 0 1, section 2 1, 0/caption 2, 3 2, 3/caption 3, 4 3
    built = page_subgraph(page, 1, max_text=6, max_images=2)
    assert [key.removeprefix("7/") for key in built.subgraph.keys] == [
        "1",
        "page",
        "0",
        "0/caption",
        "2",
        "3",
        "7_1_0",
        "7_0_0",
    ]
    assert built.own_hop_N.tolist() == [0, 1, 1, 2, 1, 2, 0, 1]
    assert (built.num_cut_texts, built.num_cut_images) == (2, 1)
    assert named_edges(built) == Counter(
        edge for edge in OF_HISTORY if not {edge[0], edge[2]} & {"3/caption", "4", "3_0"}
    )
    # a picture goes with its section
    alone = page_subgraph(page, 1, max_text=2)
    assert [key.removeprefix("7/") for key in alone.subgraph.keys] == ["1", "page", "7_1_0"]
    assert (alone.num_cut_texts, alone.num_cut_images) == (6, 2)
    near = page_subgraph(page, 1, num_hops=1)
    assert [key.removeprefix("7/") for key in near.subgraph.keys] == ["1", "page", "0", "2", "7_1_0", "7_0_0"]
    assert (near.num_far_texts, near.num_far_images, near.num_cut_texts, near.num_cut_images) == (4, 1, 0, 0)
    assert page_subgraph(page, 1, max_images=0).num_cut_images == 3


@st.composite
def pages(draw):
    sections = []
    for index in range(draw(st.integers(1, 9))):
        parent = draw(st.integers(0, index - 1)) if index and draw(st.booleans()) else None
        pictures = [image(f"p{index}", draw(st.sampled_from(["", f"caption {index}"])))] if draw(st.booleans()) else []
        sections.append(section(index, parent, *pictures))
    return page_of(*sections), draw(st.integers(0, len(sections) - 1))


def graph_of(subgraph):
    """For a second way to count hops; names are keys, since a cut changes numbers."""
    graph = nx.Graph()
    graph.add_nodes_from(subgraph.keys)
    ends = zip(subgraph.src_E.tolist(), subgraph.dst_E.tolist(), strict=True)
    graph.add_edges_from((subgraph.keys[src], subgraph.keys[dst]) for src, dst in ends)
    return graph


@pytest.mark.capability("G4-04")
@settings(max_examples=60)
@given(pages(), st.integers(1, 14), st.integers(0, 6), st.none() | st.integers(0, 4))
def test_a_subgraph_is_what_breadth_first_search_on_the_page_graph_keeps(drawn, max_text, max_images, num_hops):
    page, target = drawn
    whole = page_subgraph(page, target, max_text=99, max_images=99)
    text, pictures = whole.subgraph.text_subgraph(), whole.subgraph.image_subgraph(lent=False)
    hop_of = nx.single_source_shortest_path_length(graph_of(text), text.keys[0])
    if pictures.keys:
        hop_of |= nx.single_source_shortest_path_length(graph_of(pictures), pictures.keys[0])
    assert dict(zip(whole.subgraph.keys, whole.own_hop_N.tolist(), strict=True)) == hop_of
    built = page_subgraph(page, target, max_text=max_text, max_images=max_images, num_hops=num_hops)

    def nearest(keys, most):
        near = [key for key in keys if num_hops is None or hop_of[key] <= num_hops]
        kept = set(sorted(near, key=lambda key: (hop_of[key], keys.index(key)))[:most])
        return [key for key in keys if key in kept]

    texts = nearest(list(text.keys), max_text)
    sections = {built.sections[place] for place, key in enumerate(texts) if not key.endswith("/caption")}
    with_section = [
        key for key, place in zip(pictures.keys, whole.sections[text.num_nodes :], strict=True) if place in sections
    ]
    images = nearest(with_section, max_images)
    assert list(built.subgraph.keys) == texts + images
    assert named_edges(built) == Counter(
        {
            edge: 1
            for edge, ends in zip(named_edges(whole).elements(), _ends(whole.subgraph), strict=True)
            if ends <= {*texts, *images}
        }
    )
    from_target = nx.single_source_shortest_path_length(graph_of(built.subgraph), built.subgraph.keys[0])
    assert dict(zip(built.subgraph.keys, built.subgraph.hop_N.tolist(), strict=True)) == from_target
    assert built.own_hop_N.tolist() == [hop_of[key] for key in built.subgraph.keys]
    assert len(texts) + built.num_cut_texts + built.num_far_texts == text.num_nodes
    assert len(images) + built.num_cut_images + built.num_far_images == pictures.num_nodes


def _ends(subgraph):
    ends = zip(subgraph.src_E.tolist(), subgraph.dst_E.tolist(), strict=True)
    return [{subgraph.keys[src], subgraph.keys[dst]} for src, dst in ends]


@pytest.mark.shared
@pytest.mark.capability("G4-01")
def test_every_usable_section_of_the_real_pages_has_a_subgraph(shared_data):
    found = read_pages(shared_data / "tasks/wikipages/en_pages.jsonl.gz").pages
    sizes, slots = [], 0
    for page in found:
        for sample in section_samples(page):
            if sample.reason is not None:
                continue
            built = page_subgraph(page, sample.section)
            subgraph = built.subgraph
            target = page.sections[sample.section]
            assert subgraph.labels[0] == target.rest
            assert (subgraph.hop_N >= 0).all()
            assert len(built.images) == int(subgraph.is_image.sum()) == len(subgraph.entity_of_image) <= 5
            num_texts = subgraph.num_nodes - len(built.images)
            captions = sum(bool(each.images and each.images[0].caption) for each in page.sections)
            assert num_texts + built.num_cut_texts == len(page.sections) + 1 + captions
            assert num_texts == min(12, num_texts + built.num_cut_texts)
            slots += bool(built.images) and built.images[0] is None
            sizes.append(num_texts)
    assert len(sizes) == 429
    assert 0 < slots < 429
    assert max(sizes) == 12
