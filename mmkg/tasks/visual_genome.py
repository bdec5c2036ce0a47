"""Visual Genome: 108,077 pictures with their objects, attributes, relationships, regions and questions.

An element of each file, cut short; the elements of a file stand in one array::

    objects.json           {"image_id": 1, "objects": [{"object_id": 7, "x": 3, "y": 4, "w": 90, "h": 50,
                            "names": ["dog"], "merged_object_ids": [9]}]}
    attributes.json        {"image_id": 1, "attributes": [{"object_id": 7, "attributes": ["brown"], …}]}
    relationships.json     {"image_id": 1, "relationships": [{"relationship_id": 5, "predicate": "ON",
                            "subject": {"object_id": 7, …}, "object": {"object_id": 8, …}}]}
    region_descriptions.json  {"id": 1, "regions": [{"region_id": 4, "image_id": 1, "x": 0, "y": 0, "width": 99,
                            "height": 80, "phrase": "a dog on grass"}]}
    question_answers.json  {"id": 1, "qas": [{"qa_id": 2, "image_id": 1, "question": "…?", "answer": "…"}]}
    image_data.json        {"image_id": 1, "width": 800, "height": 600, "url": "…/VG_100K_2/1.jpg", …}

``qa_to_region_mapping.json`` is one object, ``{"2": 4}``: question 2 was asked about region 4; see
:mod:`mmkg.tasks.region_questions`. ``scene_graphs.json`` stands for the first three files together; its
relationships have ``subject_id`` and ``object_id``. Boxes are in pixels of the picture as served, from its upper left
corner, and may reach beyond it. Files are read element by element: all of a file is never in memory.

Address: https://homes.cs.washington.edu/~ranjay/visualgenome . Licence: CC BY 4.0. Citation: Krishna et al., Visual
Genome: Connecting Language and Vision Using Crowdsourced Dense Image Annotations, IJCV 2017, arXiv:1602.07332.
"""

import logging
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmkg.tasks.json_files import (
    Reject,
    count_reasons,
    entries_of,
    find_json,
    is_whole,
    listed,
    require_json,
    stream_json_array,
    words,
)

logger = logging.getLogger(__name__)

_PICTURE_FOLDERS = ("", "VG_100K", "VG_100K_2")
_PICTURE_ENDINGS = (".jpg", ".png")


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in pixels; it may reach beyond the picture, or have no area."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """A thing in a picture, with at least one name; attributes are folded in case only to leave out repetitions."""

    object_id: int
    names: tuple[str, ...]
    attributes: tuple[str, ...]
    box: Box


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneRelationship:
    """How an object stands to another; both are objects of the scene, by object_id."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneGraph:
    """What is in a picture.

    Attributes:
        image_id: of the picture.
        objects: in the order of the file.
        relationships: without repetitions.
        size_px: width and height of the picture that the boxes were drawn on; None without ``image_data.json``.
    """

    image_id: int
    objects: tuple[SceneObject, ...]
    relationships: tuple[SceneRelationship, ...]
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class SceneGraphs:
    """Scenes of a folder, in the order of the file, and what of them cannot be used."""

    scenes: tuple[SceneGraph, ...]
    rejects: tuple[Reject, ...]


def read_scene_graphs(folder: Path, *, image_ids: Collection[int] | None = None) -> SceneGraphs:
    """Read the scenes of a folder, from ``scene_graphs.json`` or from objects, attributes and relationships.

    An object that was merged into another one keeps that one's id wherever it is named. An attribute or relationship
    of an object that is not there, or is a reject itself, is a reject; so is one that is said twice.

    Args:
        folder: holds the files, each plain or gzipped; ``image_data.json`` gives sizes where it is there.
        image_ids: of the scenes that are wanted; None for all.

    Raises:
        DumpError: a file is missing, cut or not what its name says.
    """
    rejects: list[Reject] = []
    described: dict[int, list[_Described]] = {}
    related: dict[int, list[_Related]] = {}
    path = find_json(folder, "scene_graphs.json")
    if path is None:
        path = require_json(folder, "objects.json", "scene_graphs.json")
        attributes, relationships = require_json(folder, "attributes.json"), require_json(folder, "relationships.json")
        for image_id, record in read_images(attributes, image_ids, rejects):
            described.setdefault(image_id, []).extend(_described(record, attributes.name))
        for image_id, record in read_images(relationships, image_ids, rejects):
            related.setdefault(image_id, []).extend(_related(record, relationships.name))
    sizes = _read_sizes(find_json(folder, "image_data.json"))
    scenes: dict[int, SceneGraph] = {}
    for image_id, record in read_images(path, image_ids, rejects):
        if image_id in scenes:
            rejects.append(
                Reject(
                    file=path.name,
                    item=f"image {image_id}",
                    reason="repeated_image",
                    detail="expected every image once",
                )
            )
            continue
        scene = _Scene(image_id=image_id, file=path.name, rejects=rejects)
        scene.add_objects(record)
        scene.describe(described.pop(image_id, []))
        scene.relate(related.pop(image_id, _related(record, path.name)))
        scenes[image_id] = scene.whole(sizes.get(image_id))
    for name, left in (("attributes.json", described), ("relationships.json", related)):
        rejects += [
            Reject(file=name, item=f"image {image_id}", reason="no_scene", detail="expected objects of the image")
            for image_id, parts in left.items()
            if parts
        ]
    logger.info("%s: %s scenes, rejected %s", path, f"{len(scenes):,}", count_reasons(rejects))
    return SceneGraphs(scenes=tuple(scenes.values()), rejects=tuple(rejects))


def find_picture(folder: Path, image_id: int) -> Path | None:
    """The file of a picture, ``IMAGE_ID.jpg`` or .png, in a folder or its VG_100K or VG_100K_2; None without one."""
    candidates = (folder / below / f"{image_id}{ending}" for below in _PICTURE_FOLDERS for ending in _PICTURE_ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True, slots=True)
class _Described:
    file: str
    object_id: Any
    attributes: Any


@dataclass(frozen=True, slots=True)
class _Related:
    file: str
    subject: Any
    predicate: Any
    object: Any


@dataclass(kw_only=True)
class _Scene:
    """A scene while its parts are put together; what does not fit goes to the rejects."""

    image_id: int
    file: str
    rejects: list[Reject]
    objects: dict[int, tuple[tuple[str, ...], Box]] = field(default_factory=dict)
    attributes: dict[int, dict[str, str]] = field(default_factory=dict)
    relationships: dict[tuple[int, str, int], SceneRelationship] = field(default_factory=dict)
    merged_into: dict[int, int] = field(default_factory=dict)

    def add_objects(self, record: dict[str, Any]) -> None:
        for entry in entries_of(record, "objects"):
            object_id = entry.get("object_id")
            names = tuple(filter(None, map(words, listed(entry.get("names", entry.get("name"))))))
            box = read_box(entry)
            if not is_whole(object_id):
                self._reject(f"object {object_id}", "bad_field", f"object_id: expected a number, found {object_id!r}")
            elif object_id in self.objects:
                self._reject(f"object {object_id}", "repeated_object", "expected every object once in an image")
            elif not names:
                self._reject(f"object {object_id}", "no_name", f"names: expected texts, found {entry.get('names')!r}")
            elif box is None:
                self._reject(f"object {object_id}", "no_box", "x, y, w, h: expected four numbers, w and h not negative")
            else:
                self.objects[object_id] = names, box
                self.merged_into |= dict.fromkeys(filter(is_whole, listed(entry.get("merged_object_ids"))), object_id)
                self.describe([_Described(self.file, object_id, entry.get("attributes"))])

    def describe(self, found: Iterable[_Described]) -> None:
        for entry in found:
            texts = [text for text in map(words, listed(entry.attributes)) if text]
            object_id = self._resolve(entry.object_id)
            if texts and object_id is None:
                self._reject(
                    f"object {entry.object_id}", "attribute_of_no_object", f"found {', '.join(texts)}", file=entry.file
                )
            elif object_id is not None:
                known = self.attributes.setdefault(object_id, {})
                for text in texts:
                    known.setdefault(text.casefold(), text)

    def relate(self, found: Iterable[_Related]) -> None:
        for entry in found:
            subject, other = self._resolve(entry.subject), self._resolve(entry.object)
            predicate = words(entry.predicate)
            item = f"relationship {entry.subject} {entry.predicate!r} {entry.object}"
            if not predicate:
                self._reject(item, "no_predicate", "predicate: expected a text", file=entry.file)
            elif subject is None or other is None:
                self._reject(item, "relationship_of_no_object", "expected two objects of the image", file=entry.file)
            elif (key := (subject, predicate.casefold(), other)) in self.relationships:
                self._reject(item, "repeated_relationship", "expected every relationship once", file=entry.file)
            else:
                self.relationships[key] = SceneRelationship(subject=subject, predicate=predicate, object=other)

    def whole(self, size_px: tuple[int, int] | None) -> SceneGraph:
        objects = (
            SceneObject(
                object_id=object_id, names=names, attributes=tuple(self.attributes.get(object_id, {}).values()), box=box
            )
            for object_id, (names, box) in self.objects.items()
        )
        return SceneGraph(
            image_id=self.image_id,
            objects=tuple(objects),
            relationships=tuple(self.relationships.values()),
            size_px=size_px,
        )

    def _resolve(self, object_id: Any) -> int | None:
        if not is_whole(object_id):
            return None
        into: int = object_id if object_id in self.objects else self.merged_into.get(object_id, object_id)
        return into if into in self.objects else None

    def _reject(self, what: str, reason: str, detail: str, *, file: str | None = None) -> None:
        item = f"image {self.image_id}, {what}"
        self.rejects.append(Reject(file=file or self.file, item=item, reason=reason, detail=detail))


def read_images(
    path: Path, image_ids: Collection[int] | None, rejects: list[Reject]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The elements of a file that are wanted, with their image_id; some files call it `id`."""
    for place, record in enumerate(stream_json_array(path)):
        image_id = record.get("image_id", record.get("id"))
        if not is_whole(image_id):
            rejects.append(
                Reject(file=path.name, item=f"element {place}", reason="no_image_id", detail=f"found {image_id!r}")
            )
        elif image_ids is None or image_id in image_ids:
            yield image_id, record


def _read_sizes(path: Path | None) -> dict[int, tuple[int, int]]:
    if path is None:
        return {}
    return {
        image_id: (record["width"], record["height"])
        for image_id, record in read_images(path, None, [])
        if is_whole(record.get("width")) and is_whole(record.get("height"))
    }


def _described(record: dict[str, Any], file: str) -> list[_Described]:
    return [
        _Described(file, entry.get("object_id"), entry.get("attributes")) for entry in entries_of(record, "attributes")
    ]


def _related(record: dict[str, Any], file: str) -> list[_Related]:
    def end(entry: dict[str, Any], name: str) -> Any:
        return entry[name].get("object_id") if isinstance(entry.get(name), dict) else entry.get(f"{name}_id")

    return [
        _Related(file, end(entry, "subject"), entry.get("predicate"), end(entry, "object"))
        for entry in entries_of(record, "relationships")
    ]


def read_box(entry: dict[str, Any]) -> Box | None:
    """The box of an object or region; None unless it has four finite numbers, width and height not negative."""
    found = [entry.get("x"), entry.get("y"), entry.get("w", entry.get("width")), entry.get("h", entry.get("height"))]
    sides = [float(side) for side in found if isinstance(side, int | float) and not isinstance(side, bool)]
    if len(sides) < len(found) or not all(map(math.isfinite, sides)):
        return None
    x, y, width, height = sides
    return Box(x=x, y=y, width=width, height=height) if width >= 0 and height >= 0 else None
