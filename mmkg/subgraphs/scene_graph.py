"""Multimodal subgraphs of scenes: what is seen in a picture, as nodes, relations, and crops of the picture.

On the way of a fact: what a build's subgraph is to an entity, this is to a picture. An object is an entity node with
the text of its names; the part of the picture in its box is an image node, tied to it by "image of"; each attribute
is a node, tied by "attribute of"; what holds between objects stays a relation, out of one vocabulary of all scenes.
All objects are seeds: hop 0. A box outside the picture, or a picture that cannot be had, leaves its objects without a
picture, and says so.

Source: Lee et al., ACL 2024, arXiv:2406.02030, appendix A.3. Not said there, so ours: names of an object are one text,
joined by commas; predicates that differ in case only are one relation; the whole picture is no node unless asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mmkg.embeddings.base import Embedder, open_picture
from mmkg.embeddings.pipeline import in_pieces
from mmkg.errors import EmbeddingError, NotFound, unknown_name
from mmkg.images.crops import Crop, clip_box, crop_picture
from mmkg.subgraphs.assemble import EXTRA_RELATIONS, Floats, MultimodalSubgraph, Picture, assemble
from mmkg.tasks.visual_genome import SceneGraph, SceneObject

ScenePicture = Path | Image.Image | None

_SCENES_AT_ONCE = 32  # their crops are in memory together: about 1 MB a scene
BATCH_SIZE = 64
"""Texts or crops that an embedder gets at once."""
_SCENE_LABEL = "scene"


@dataclass(frozen=True)
class SceneRelations:
    """The relations of a set of scenes.

    Attributes:
        names: predicates, folded in case, sorted; without "image of" and "attribute of", which follow them.
    """

    names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Number the names."""
        object.__setattr__(self, "_index", {name: index for index, name in enumerate(self.names)})

    @classmethod
    def of(cls, scenes: Iterable[SceneGraph]) -> "SceneRelations":
        """The vocabulary of some scenes."""
        return cls(tuple(sorted({_folded(each.predicate) for scene in scenes for each in scene.relationships})))

    @property
    def texts(self) -> tuple[str, ...]:
        """The name of every relation of a subgraph, in order of its number: for relation vectors."""
        return self.names + EXTRA_RELATIONS

    def index(self, predicate: str) -> int:
        """The number of a predicate, whatever its case.

        Raises:
            NotFound: no scene of the vocabulary has it.
        """
        if (index := self._index.get(_folded(predicate))) is None:
            raise NotFound(
                unknown_name("relation of these scenes", predicate, self.names[:20])
                + " Make the vocabulary out of all scenes that are used: SceneRelations.of(scenes)."
            )
        return index


@dataclass(frozen=True, kw_only=True)
class SceneSubgraph:
    """A scene as a multimodal subgraph.

    Attributes:
        image_id: of the picture.
        subgraph: objects in the order of the scene, then (if asked for) the scene itself, crops, attributes.
        without_picture: object_id to the reason why it has none: empty_crop, or one of the whole picture.
        picture_failed: no_picture | not_a_picture | other_size (boxes were drawn on a picture of another size), and
            then no object has a picture; None where the picture was used.
    """

    image_id: int
    subgraph: MultimodalSubgraph
    without_picture: Mapping[int, str]
    picture_failed: str | None


def build_scene_subgraph(
    scene: SceneGraph,
    picture: ScenePicture,
    embedder: Embedder,
    *,
    relations: SceneRelations,
    whole_picture: bool = False,
) -> SceneSubgraph:
    """Build the subgraph of one scene; see :func:`build_scene_subgraphs`."""
    (built,) = build_scene_subgraphs([(scene, picture)], embedder, relations=relations, whole_picture=whole_picture)
    return built


def build_scene_subgraphs(
    scenes: Iterable[tuple[SceneGraph, ScenePicture]],
    embedder: Embedder,
    *,
    relations: SceneRelations,
    whole_picture: bool = False,
    batch_size: int = BATCH_SIZE,
    scenes_at_once: int = _SCENES_AT_ONCE,
) -> Iterator[SceneSubgraph]:
    """Build the subgraphs of many scenes, in their order; texts and crops are embedded in batches over scenes.

    Args:
        scenes: each with its picture as a file or as Pillow opened it, or None.
        embedder: of texts, and of pictures where there are any. A text is embedded once, a crop once among
            `scenes_at_once` scenes.
        relations: that number the predicates of all scenes.
        whole_picture: add an entity "scene", which is no seed's neighbour and has no text vector, and the whole picture
            as its image.
        batch_size: texts or crops that the embedder gets at once.
        scenes_at_once: whose crops are kept in memory together.

    Raises:
        NotFound: a predicate is not among `relations`.
        EmbeddingError: the embedder lacks texts or pictures.
    """
    texts: dict[str, Floats | None] = {}
    for window in in_pieces(scenes, scenes_at_once):
        cuts = [_cut(scene, picture, whole_picture=whole_picture) for scene, picture in window]
        new = {text for cut in cuts for text in _texts_of(cut.scene)} - texts.keys()
        texts |= _embed(sorted(new), embedder.embed_texts, batch_size)
        crops = {crop.sha256: crop for cut in cuts for crop in cut.crops.values()}
        vectors = _embed(sorted(crops), partial(_embed_crops, embedder, crops), batch_size)
        for cut in cuts:
            yield _assemble(cut, texts, vectors, relations, embedder.identity.dimension)


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A scene and the crops of its objects, by their places; the whole picture stands at the place after the last."""

    scene: SceneGraph
    crops: Mapping[int, Crop]
    without_picture: Mapping[int, str]
    picture_failed: str | None
    whole_picture: bool


def _cut(scene: SceneGraph, picture: ScenePicture, *, whole_picture: bool) -> _Cut:
    opened, failed = _open(picture, scene.size_px)
    crops: dict[int, Crop] = {}
    without: dict[int, str] = {}
    for place, thing in enumerate(scene.objects):
        if opened is None:
            without[thing.object_id] = failed or ""
            continue
        sides = clip_box(
            x=thing.box.x,
            y=thing.box.y,
            width=thing.box.width,
            height=thing.box.height,
            width_px=opened.width,
            height_px=opened.height,
        )
        if sides is None:
            without[thing.object_id] = "empty_crop"
        else:
            crops[place] = crop_picture(opened, sides)
    if whole_picture and opened is not None:
        crops[len(scene.objects)] = crop_picture(opened, (0, 0, opened.width, opened.height))
    return _Cut(scene=scene, crops=crops, without_picture=without, picture_failed=failed, whole_picture=whole_picture)


def _open(picture: ScenePicture, size_px: tuple[int, int] | None) -> tuple[Image.Image | None, str | None]:
    """The picture, or why there is none."""
    if isinstance(picture, Path):
        try:
            # not turned by its EXIF orientation: boxes were drawn on the pixels as they are stored
            picture = open_picture(picture.read_bytes())
        except FileNotFoundError:
            return None, "no_picture"
        except EmbeddingError:
            return None, "not_a_picture"
    if picture is None:
        return None, "no_picture"
    if size_px is not None and picture.size != size_px:
        return None, "other_size"
    return picture, None


def _assemble(
    cut: _Cut,
    texts: Mapping[str, Floats | None],
    vectors: Mapping[str, Floats | None],
    relations: SceneRelations,
    dimension: int,
) -> SceneSubgraph:
    scene = cut.scene
    place_of = {thing.object_id: place for place, thing in enumerate(scene.objects)}
    entity_ids = [f"{scene.image_id}/{thing.object_id}" for thing in scene.objects]
    labels = [thing.names[0] for thing in scene.objects]
    entity_vectors = [texts[_text_of(thing)] for thing in scene.objects]
    if cut.whole_picture:
        entity_ids, labels = [*entity_ids, str(scene.image_id)], [*labels, _SCENE_LABEL]
        entity_vectors = [*entity_vectors, None]
    edges = np.array(
        [
            (place_of[each.subject], relations.index(each.predicate), place_of[each.object])
            for each in scene.relationships
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    subgraph = assemble(
        entity_ids=entity_ids,
        labels=labels,
        vectors=entity_vectors,
        src=edges[:, 0],
        relation=edges[:, 1],
        dst=edges[:, 2],
        num_relations=len(relations.names),
        num_seeds=len(scene.objects),
        dimension=dimension,
        pictures={
            place: [Picture(sha256=crop.sha256, vector=vectors[crop.sha256])] for place, crop in cut.crops.items()
        },
        attributes={
            place: [(text, texts[text]) for text in thing.attributes] for place, thing in enumerate(scene.objects)
        },
    )
    return SceneSubgraph(
        image_id=scene.image_id,
        subgraph=subgraph,
        without_picture=cut.without_picture,
        picture_failed=cut.picture_failed,
    )


def _embed(keys: Sequence[str], embed: Callable[[Sequence[str]], Floats], batch_size: int) -> dict[str, Floats | None]:
    """Vectors by key; None where the model gives a row that is not finite, or all zeros."""
    found: dict[str, Floats | None] = {}
    for batch in in_pieces(keys, batch_size):
        for key, row in zip(batch, embed(batch), strict=True):
            found[key] = row if np.isfinite(row).all() and row.any() else None
    return found


def _embed_crops(embedder: Embedder, crops: Mapping[str, Crop], keys: Sequence[str]) -> Floats:
    return embedder.embed_images([embedder.prepare_image(crops[key].data) for key in keys])


def _texts_of(scene: SceneGraph) -> Iterator[str]:
    for thing in scene.objects:
        yield _text_of(thing)
        yield from thing.attributes


def _text_of(thing: SceneObject) -> str:
    return ", ".join(thing.names)


def _folded(predicate: str) -> str:
    return " ".join(predicate.split()).casefold()
