import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import open_embedder
from mmkg.errors import NotFound
from mmkg.images.crops import clip_box, crop_picture
from mmkg.subgraphs.assemble import NodeKind
from mmkg.subgraphs.grounded import grounded_instances
from mmkg.subgraphs.scene_graph import SceneRelations, build_scene_subgraph, build_scene_subgraphs
from mmkg.tasks.region_questions import read_region_questions
from mmkg.tasks.visual_genome import Box, SceneGraph, SceneObject, SceneRelationship, find_picture, read_scene_graphs
from tests.tasks.visual_genome_files import BLUE, GREEN, RED, draw_pictures, parts, write_files


class CountingEmbedder:
    """The hashing embedder, with a record of what it was asked for."""

    def __init__(self):
        self.inner = open_embedder(EmbeddingsConfig(kind="hashing"))
        self.identity = self.inner.identity
        self.texts, self.sizes, self.batches = [], [], []

    def prepare_image(self, data):
        import io

        self.sizes.append(Image.open(io.BytesIO(data)).size)
        return self.inner.prepare_image(data)

    def embed_images(self, batch):
        self.batches.append(len(batch))
        return self.inner.embed_images(batch)

    def embed_texts(self, texts):
        self.texts += texts
        self.batches.append(len(texts))
        return self.inner.embed_texts(texts)


@pytest.fixture
def embedder():
    return CountingEmbedder()


@pytest.fixture
def folder(tmp_path):
    return draw_pictures(write_files(tmp_path, parts()))


@pytest.fixture
def scenes(folder):
    return read_scene_graphs(folder).scenes


def edges(subgraph, relations):
    triples = zip(subgraph.src_E.tolist(), subgraph.relation_E.tolist(), subgraph.dst_E.tolist(), strict=True)
    named = subgraph.labels
    return {(named[src] or "crop", relations.texts[relation], named[dst]) for src, relation, dst in triples}


@pytest.mark.capability("MR-04")
def test_a_scene_becomes_objects_crops_attributes_and_relations(folder, scenes, embedder):
    relations = SceneRelations.of(scenes)
    built = build_scene_subgraph(scenes[0], find_picture(folder, 1), embedder, relations=relations)
    subgraph = built.subgraph
    assert edges(subgraph, relations) == {
        ("dog", "on", "grass"),
        ("sky", "above", "dog"),
        ("crop", "image of", "dog"),
        ("crop", "image of", "grass"),
        ("brown", "attribute of", "dog"),
        ("small", "attribute of", "dog"),
        ("green", "attribute of", "grass"),
    }
    kinds = [NodeKind.ENTITY] * 3 + [NodeKind.IMAGE] * 2 + [NodeKind.ATTRIBUTE] * 3
    assert subgraph.kind_N.tolist() == kinds
    assert (subgraph.num_nodes, subgraph.num_edges, subgraph.num_seeds) == (8, 7, 3)
    assert subgraph.hop_N.tolist() == [0] * 3 + [1] * 5
    assert subgraph.has_vector_N.all()
    assert subgraph.keys[:3] == ("1/10", "1/11", "1/12")
    assert built.picture_failed is None


@pytest.mark.capability("MR-04")
def test_a_crop_is_the_clipped_box_and_a_box_outside_leaves_its_object_without_picture(folder, scenes, embedder):
    relations = SceneRelations.of(scenes)
    built = build_scene_subgraph(scenes[0], find_picture(folder, 1), embedder, relations=relations)
    assert sorted(embedder.sizes) == [(10, 8), (40, 10)]  # the dog's box whole; of the grass's 60 x 20 what is inside
    assert built.without_picture == {12: "empty_crop"}
    with_picture = set(built.subgraph.entity_of_image.values())
    assert with_picture == {0, 1}


@pytest.mark.capability("MR-04")
def test_the_vectors_are_those_of_the_pixels_and_texts(folder, scenes, embedder):
    relations = SceneRelations.of(scenes)
    subgraph = build_scene_subgraph(scenes[0], find_picture(folder, 1), embedder, relations=relations).subgraph
    crops = [Image.new("RGB", (10, 8), RED), Image.new("RGB", (40, 10), GREEN)]
    expected = [crop_picture(crop, (0, 0, *crop.size)) for crop in crops]
    assert subgraph.keys[3:5] == tuple(crop.sha256 for crop in expected)
    rows = embedder.inner.embed_images([embedder.inner.prepare_image(crop.data) for crop in expected])
    np.testing.assert_array_equal(subgraph.vector_ND[3:5], rows)
    texts = ["dog", "grass", "sky", "brown", "small", "green"]
    np.testing.assert_array_equal(subgraph.vector_ND[[0, 1, 2, 5, 6, 7]], embedder.inner.embed_texts(texts))


def test_scenes_share_one_vocabulary_whatever_the_case(scenes):
    relations = SceneRelations.of(scenes)
    assert relations.texts == ("above", "next to", "on", "image of", "attribute of")
    assert relations.index("ON") == relations.index("on") == 2
    with pytest.raises(NotFound, match=r"'onn'.*Did you mean 'on'"):
        relations.index("onn")


@pytest.mark.capability("MR-04")
def test_many_scenes_at_once_are_as_each_alone_and_every_text_and_crop_is_embedded_once(folder, scenes, embedder):
    relations = SceneRelations.of(scenes)
    pairs = [(scene, find_picture(folder, scene.image_id)) for scene in scenes]
    together = list(build_scene_subgraphs(pairs, embedder, relations=relations, batch_size=2))
    assert sorted(embedder.texts) == sorted({"dog", "grass", "sky", "brown", "small", "green", "cup", "cat", "mat"})
    assert len(embedder.sizes) == 3  # the two cups of image 2 have one box
    assert max(embedder.batches) == 2
    for found, (scene, picture) in zip(together, pairs, strict=True):
        alone = build_scene_subgraph(scene, picture, embedder, relations=relations)
        for field in dataclasses.fields(found.subgraph):
            np.testing.assert_array_equal(getattr(found.subgraph, field.name), getattr(alone.subgraph, field.name))
    again = CountingEmbedder()
    windows = list(build_scene_subgraphs(pairs * 2, again, relations=relations, scenes_at_once=1))
    assert [each.subgraph.keys for each in windows] == [each.subgraph.keys for each in together] * 2
    assert len(again.texts) == len(set(again.texts))


def test_two_objects_with_one_box_share_a_picture(folder, scenes, embedder):
    relations = SceneRelations.of(scenes)
    subgraph = build_scene_subgraph(scenes[1], find_picture(folder, 2), embedder, relations=relations).subgraph
    assert subgraph.is_image.sum() == 1
    assert subgraph.dst_E[subgraph.src_E == np.flatnonzero(subgraph.is_image)[0]].tolist() == [0, 1]


def test_the_whole_picture_is_a_node_only_where_asked_for(folder, scenes, embedder):
    relations, picture = SceneRelations.of(scenes), find_picture(folder, 1)
    plain = build_scene_subgraph(scenes[0], picture, embedder, relations=relations).subgraph
    more = build_scene_subgraph(scenes[0], picture, embedder, relations=relations, whole_picture=True).subgraph
    assert (more.num_nodes, more.num_edges) == (plain.num_nodes + 2, plain.num_edges + 1)
    assert (more.labels[3], more.keys[3], bool(more.has_vector_N[3])) == ("scene", "1", False)
    assert embedder.sizes[-3:].count((40, 30)) == 1
    assert more.num_seeds == plain.num_seeds


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, "no_picture"),
        (lambda folder: folder / "missing.png", "no_picture"),
        (lambda folder: folder / "objects.json", "not_a_picture"),
        (lambda folder: Image.new("RGB", (20, 15)), "other_size"),
    ],
)
def test_without_a_usable_picture_the_objects_stay_and_say_why(folder, scenes, embedder, make, reason):
    relations = SceneRelations.of(scenes)
    built = build_scene_subgraph(scenes[0], make(folder), embedder, relations=relations, whole_picture=True)
    assert built.picture_failed == reason
    assert built.without_picture == dict.fromkeys([10, 11, 12], reason)
    assert not built.subgraph.is_image.any()
    assert (built.subgraph.num_seeds, embedder.sizes) == (3, [])


def test_a_scene_without_objects_is_an_empty_subgraph(embedder):
    scene = SceneGraph(image_id=5, objects=(), relationships=())
    built = build_scene_subgraph(scene, Image.new("RGB", (4, 4)), embedder, relations=SceneRelations(()))
    assert (built.subgraph.num_nodes, built.subgraph.num_edges) == (0, 0)
    assert built.subgraph.vector_ND.shape == (0, 256)


def test_a_row_that_is_not_finite_is_no_vector(folder, scenes, embedder):
    embedder.embed_images = lambda batch: np.full((len(batch), 256), np.nan, np.float32)
    relations = SceneRelations.of(scenes)
    subgraph = build_scene_subgraph(scenes[0], find_picture(folder, 1), embedder, relations=relations).subgraph
    assert (subgraph.has_vector_N == ~subgraph.is_image).all()
    assert np.isfinite(subgraph.vector_ND).all()


def test_a_predicate_of_another_vocabulary_is_named(folder, scenes, embedder):
    with pytest.raises(NotFound, match="'ON'"):
        build_scene_subgraph(scenes[0], None, embedder, relations=SceneRelations.of(scenes[2:]))


@pytest.mark.capability("MR-05")
def test_questions_about_regions_are_tied_to_picture_and_subgraph_and_the_rest_is_counted(folder, scenes, embedder):
    asked = read_region_questions(folder)
    pictures = {image_id: path for image_id in (1, 2, 3) if (path := find_picture(folder, image_id))}
    found = grounded_instances(asked, scenes, pictures, embedder)
    assert [(each.picture.name, each.question, each.answer) for each in found.instances] == [
        ("1.png", "What is it?", "A dog."),
        ("1.png", "Where is it?", "On grass."),
        ("2.png", "What are they?", "Cups."),
    ]
    assert found.instances[0].subgraph is found.instances[1].subgraph
    assert found.instances[2].subgraph.labels[:2] == ("cup", "cup")
    assert found.left_out == {"free_form": 1, "no_picture": 1}
    assert found.without_picture == {"empty_crop": 1}
    assert len(found.instances) + sum(found.left_out.values()) == 5


@pytest.mark.capability("MR-05")
def test_every_question_is_an_instance_or_counted_with_a_reason(folder, scenes, embedder):
    asked = read_region_questions(folder)
    empty = SceneGraph(image_id=2, objects=(), relationships=())
    pictures = {1: folder / "objects.json", 2: folder / "2.png"}
    found = grounded_instances(asked, [scenes[0], empty], pictures, embedder)
    assert found.instances == ()
    assert found.left_out == {"free_form": 1, "no_objects": 1, "no_scene": 1, "not_a_picture": 2}
    pictures = {1: folder / "2.png"}
    assert grounded_instances(asked, scenes[:1], pictures, embedder).left_out["other_size"] == 2


@given(
    x=st.integers(-12, 12),
    y=st.integers(-12, 12),
    width=st.integers(0, 15),
    height=st.integers(0, 15),
    columns=st.integers(1, 10),
    rows=st.integers(1, 10),
)
def test_a_clipped_box_holds_the_pixels_that_lie_in_both(x, y, width, height, columns, rows):
    inside = {(i, j) for i in range(columns) for j in range(rows) if x <= i < x + width and y <= j < y + height}
    found = clip_box(x=x, y=y, width=width, height=height, width_px=columns, height_px=rows)
    pixels = set()
    if found is not None:
        left, top, right, bottom = found
        pixels = {(i, j) for i in range(left, right) for j in range(top, bottom)}
    assert pixels == inside


def test_a_box_without_area_between_two_pixels_holds_none():
    assert clip_box(x=1.5, y=1, width=0, height=3, width_px=9, height_px=9) is None
    assert clip_box(x=1.5, y=1, width=1, height=3, width_px=9, height_px=9) == (1, 1, 3, 4)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_equal_pixels_are_one_crop_whatever_the_mode_of_the_picture(mode):
    grey = Image.new("RGB", (8, 8), (153, 153, 153))
    box = (1, 2, 5, 7)
    assert crop_picture(grey.convert(mode), box).sha256 == crop_picture(grey, (0, 0, 4, 5)).sha256
    assert crop_picture(grey, (0, 0, 5, 4)).sha256 != crop_picture(grey, (0, 0, 4, 5)).sha256
    assert crop_picture(Image.new("RGB", (8, 8), BLUE), box).sha256 != crop_picture(grey, box).sha256


def test_objects_with_several_names_are_one_text(embedder):
    thing = SceneObject(object_id=1, names=("man", "person"), attributes=(), box=Box(x=0, y=0, width=1, height=1))
    tied = SceneRelationship(subject=1, predicate="sees", object=1)
    scene = SceneGraph(image_id=1, objects=(thing,), relationships=(tied,))
    subgraph = build_scene_subgraph(scene, None, embedder, relations=SceneRelations.of([scene])).subgraph
    assert (subgraph.labels, embedder.texts) == (("man",), ["man, person"])
    assert (subgraph.src_E.tolist(), subgraph.dst_E.tolist()) == ([0], [0])
