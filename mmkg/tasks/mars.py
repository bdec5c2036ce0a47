"""MARS and MarKG: multimodal analogies over a graph of Wikidata entities.

A line of MARS (``train.json``, ``dev.json``, ``test.json``), one item a line::

    {"example": ["Q11460", "Q270952"], "question": "Q5135520", "answer": "Q2362573", "relation": "P828", "mode": 0}

"As Q11460 is to Q270952, so is Q5135520 to which of the 2,063 entities of ``analogy_entities.txt``?" The relation is a
label that no reasoner may see; the mode says which of the three entities are shown as pictures (`MODALITIES`).

Lines of MarKG: ``wiki_tuple_ids.txt`` holds ``head⇥relation⇥tail``. ``entity2text.txt`` holds names
(``Q262⇥Algeria``), ``entity2textlong.txt`` descriptions (``Q262⇥country in North Africa``); ``relation2text.txt`` and
``relation2textlong.txt`` are alike for relations.

What is not in it: pictures are not read here. Sizes of the released files are 10,641 / 1,020 / 1,362 items, the
paper says 10,685 / 1,228 / 1,415; 33,307 lines of triples are 33,301 distinct ones. In 50 of the dev items (one of
train) the example is the question's own pair, see :func:`mmkg.tasks.mars_controls.own_example_mask`.

Address: https://github.com/zjunlp/MKG_Analogy . Licence: MIT (Wikidata: CC0). Citation: Zhang et al., Multimodal
Analogical Reasoning over Knowledge Graphs, ICLR 2023.
"""

import gzip
import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mmkg.errors import ConfigError, DumpError, unknown_name

logger = logging.getLogger(__name__)

Int64Array: TypeAlias = npt.NDArray[np.int64]
Modality: TypeAlias = Literal["text", "image"]

SPLITS = ("train", "dev", "test")
MODALITIES: Mapping[int, tuple[Modality, Modality, Modality]] = {
    0: ("text", "text", "image"),
    1: ("image", "image", "text"),
    2: ("image", "text", "image"),
}
"""Mode -> how example head, example tail and question are shown (MarT's data processor); answers are entities."""

_ADDRESS = "https://github.com/zjunlp/MKG_Analogy"
_KEYS = ("example", "question", "answer", "relation", "mode")
_MOST_SHOWN = 200  # characters of a bad line in a message


@dataclass(frozen=True, kw_only=True)
class RejectedLine:
    """A line of MarKG that did not become what it should: where it stands, and why."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class MarKG:
    """The graph. The index of an entity or a relation is its place in the file of names.

    Attributes:
        entity_ids: Wikidata ids, such as Q262.
        names: of each entity; its id where the file has none.
        descriptions: of each entity; None where missing.
        relation_ids: Wikidata properties (P828) and MARS's own relations (A12).
        relation_names: of each relation; its id where the file has none.
        relation_descriptions: of each relation; None where missing.
        triples: int64 (T, 3) head, relation, tail as indices; distinct, sorted by the columns in this order.
        rejects: lines that were left out. Of the file of triples, lines = triples + rejects + blank lines.
    """

    entity_ids: tuple[str, ...]
    names: tuple[str, ...]
    descriptions: tuple[str | None, ...]
    relation_ids: tuple[str, ...]
    relation_names: tuple[str, ...]
    relation_descriptions: tuple[str | None, ...]
    triples: Int64Array
    rejects: tuple[RejectedLine, ...]

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Entity id -> index."""
        return {entity_id: index for index, entity_id in enumerate(self.entity_ids)}


@dataclass(frozen=True, kw_only=True, slots=True)
class MarsItem:
    """One analogy. Entities are indices of a `MarKG`.

    Attributes:
        example_head: is to `example_tail` as `question` is to `answer`.
        example_tail: the other entity of the example.
        question: the entity asked about.
        answer: the entity that is right.
        relation: id of the relation that both pairs share; a label, not to be shown.
        mode: key of `MODALITIES`.
    """

    example_head: int
    example_tail: int
    question: int
    answer: int
    relation: str
    mode: int

    @property
    def modalities(self) -> tuple[Modality, Modality, Modality]:
        """How example head, example tail and question are shown."""
        return MODALITIES[self.mode]


def as_columns(items: Sequence[MarsItem]) -> Int64Array:
    """Return int64 (Q, 4): example head, example tail, question, answer of each item."""
    rows = [(item.example_head, item.example_tail, item.question, item.answer) for item in items]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 4)


def read_markg(folder: Path) -> MarKG:
    """Read MarKG.

    Args:
        folder: with the five files, plain or ``.gz``; or its parent, if it is called MarKG.

    Raises:
        DumpError: a file is missing, cut off, not UTF-8, or has no usable line.
    """
    folder = folder / "MarKG" if (folder / "MarKG").is_dir() else folder
    rejects: list[RejectedLine] = []
    entity_ids, names = _read_names(_find(folder, "entity2text.txt"), rejects)
    relation_ids, relation_names = _read_names(_find(folder, "relation2text.txt"), rejects)
    entities = {entity_id: index for index, entity_id in enumerate(entity_ids)}
    relations = {relation_id: index for index, relation_id in enumerate(relation_ids)}
    descriptions = _read_descriptions(_find(folder, "entity2textlong.txt"), entities, rejects)
    relation_descriptions = _read_descriptions(_find(folder, "relation2textlong.txt"), relations, rejects)
    triples = _read_triples(_find(folder, "wiki_tuple_ids.txt"), entities, relations, rejects)
    if rejects:
        first = rejects[0]
        logger.warning(
            "MarKG: rejected lines: %s, the first is %s line %s: %s",
            f"{len(rejects):,}",
            first.file,
            first.line,
            first.reason,
        )
    return MarKG(
        entity_ids=entity_ids,
        names=names,
        descriptions=descriptions,
        relation_ids=relation_ids,
        relation_names=relation_names,
        relation_descriptions=relation_descriptions,
        triples=triples,
        rejects=tuple(rejects),
    )


def read_mars(folder: Path, split: str, markg: MarKG) -> tuple[MarsItem, ...]:
    """Read the items of a split, in the file's order. All or none: a benchmark without some items is another one.

    Args:
        folder: with ``train.json`` and the others, plain or ``.gz``; or its parent, if it is called MARS.
        split: train | dev | test.
        markg: whose indices the items use.

    Raises:
        ConfigError: no split is called so.
        DumpError: the file is missing or cut off, or a line is no item: not JSON, a key missing, an unknown mode, an
            entity that MarKG does not have.
    """
    if split not in SPLITS:
        raise ConfigError(unknown_name("split of MARS", split, SPLITS))
    path = _find(_mars_folder(folder), f"{split}.json")
    items = tuple(_parse_item(path, number, line, markg) for number, line in _read_lines(path))
    if not items:
        raise DumpError(f"{path}: expected one item a line, found none; fetch the file again")
    return items


def read_candidates(folder: Path, markg: MarKG) -> Int64Array:
    """Return int64 (C,): the entities that answers are ranked among, in the order of ``analogy_entities.txt``.

    Args:
        folder: as for :func:`read_mars`.
        markg: whose indices are returned.

    Raises:
        DumpError: the file is missing, cut off or empty, or names an entity twice or one that MarKG does not have.
    """
    path = _find(_mars_folder(folder), "analogy_entities.txt")
    candidates: dict[int, int] = {}
    for number, line in _read_lines(path):
        index = _entity(path, number, "a candidate", line.strip(), markg)
        if index in candidates:
            raise DumpError(
                f"{path} line {number}: {line.strip()} stands in line {candidates[index]} too; expected each candidate "
                "once. Remove one of the two lines"
            )
        candidates[index] = number
    if not candidates:
        raise DumpError(f"{path}: expected one entity a line, found none; fetch the file again")
    return np.array(list(candidates), dtype=np.int64)


def _mars_folder(folder: Path) -> Path:
    return folder / "MARS" if (folder / "MARS").is_dir() else folder


def _parse_item(path: Path, number: int, line: str, markg: MarKG) -> MarsItem:
    where = f"{path} line {number}"
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DumpError(
            f"{where}: expected one JSON object, found {line[:_MOST_SHOWN]!r} ({error.msg} at character {error.pos}); "
            "if it is the last line, the file was cut off: fetch it again"
        ) from error
    if not isinstance(row, dict):
        raise DumpError(f"{where}: expected a JSON object with {', '.join(_KEYS)}, found {line[:_MOST_SHOWN]!r}")
    missing = [key for key in _KEYS if key not in row]
    if missing:
        raise DumpError(
            f"{where}: expected the keys {', '.join(_KEYS)}; missing: {', '.join(missing)}. "
            "Is this a file of MARS in its released form?"
        )
    example, relation, mode = row["example"], row["relation"], row["mode"]
    if not isinstance(example, list) or len(example) != 2:
        raise DumpError(f"{where}: expected 'example' to be a list of two entities, found {example!r}")
    if type(mode) is not int or mode not in MODALITIES:  # True is an int, and equal to 1
        raise DumpError(f"{where}: expected mode {', '.join(map(str, MODALITIES))}, found {mode!r}")
    if not isinstance(relation, str):
        raise DumpError(f"{where}: expected 'relation' to be an id such as P828, found {relation!r}")
    return MarsItem(
        example_head=_entity(path, number, "the example's head", example[0], markg),
        example_tail=_entity(path, number, "the example's tail", example[1], markg),
        question=_entity(path, number, "the question", row["question"], markg),
        answer=_entity(path, number, "the answer", row["answer"], markg),
        relation=relation,
        mode=mode,
    )


def _entity(path: Path, number: int, what: str, entity_id: Any, markg: MarKG) -> int:
    index = markg.index_of.get(entity_id) if isinstance(entity_id, str) else None
    if index is None:
        raise DumpError(
            f"{path} line {number}: expected {what} to be one of the {len(markg.entity_ids):,} entities of MarKG, such "
            f"as {markg.entity_ids[0]}, found {entity_id!r}; are MARS and MarKG of the same release?"
        )
    return index


def _read_names(path: Path, rejects: list[RejectedLine]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names: dict[str, str] = {}
    for number, line in _read_lines(path):
        key, _, text = (part.strip() for part in line.partition("\t"))
        if not key:
            rejects.append(RejectedLine(file=path.name, line=number, reason="expected id TAB name, found no id"))
        elif key in names:
            rejects.append(RejectedLine(file=path.name, line=number, reason=f"{key} stands in an earlier line"))
        else:
            names[key] = text or key
            if not text:
                reason = f"{key} has no name, its id stands for it"
                rejects.append(RejectedLine(file=path.name, line=number, reason=reason))
    if not names:
        raise DumpError(f"{path}: expected id TAB name, one a line, found none; fetch the file again")
    return tuple(names), tuple(names.values())


def _read_descriptions(path: Path, index_of: Mapping[str, int], rejects: list[RejectedLine]) -> tuple[str | None, ...]:
    found: list[str | None] = [None] * len(index_of)
    for number, line in _read_lines(path):
        key, _, text = (part.strip() for part in line.partition("\t"))
        index = index_of.get(key)
        if index is None:
            rejects.append(RejectedLine(file=path.name, line=number, reason=f"{key!r} is not in the file of names"))
        elif found[index] is not None:
            rejects.append(RejectedLine(file=path.name, line=number, reason=f"{key} stands in an earlier line"))
        else:
            found[index] = text or None
    return tuple(found)


def _read_triples(
    path: Path, entities: Mapping[str, int], relations: Mapping[str, int], rejects: list[RejectedLine]
) -> Int64Array:
    triples: set[tuple[int, int, int]] = set()
    for number, line in _read_lines(path):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 3:
            reason = f"expected head TAB relation TAB tail, found {len(columns)} columns"
        elif unknown := [column for column in (columns[0], columns[2]) if column not in entities]:
            reason = f"{unknown[0]!r} is not in the file of entity names"
        elif columns[1] not in relations:
            reason = f"{columns[1]!r} is not in the file of relation names"
        else:
            triple = entities[columns[0]], relations[columns[1]], entities[columns[2]]
            if triple not in triples:
                triples.add(triple)
                continue
            reason = "the triple stands in an earlier line"
        rejects.append(RejectedLine(file=path.name, line=number, reason=reason))
    if not triples:
        raise DumpError(f"{path}: expected head TAB relation TAB tail, one a line, found none; fetch the file again")
    return np.array(sorted(triples), dtype=np.int64)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DumpError(f"{folder}: expected {name} or {name}.gz, found neither; they come from {_ADDRESS}")


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of every line that is not blank."""
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed).decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise DumpError(f"{path}: expected UTF-8, found {found}; fetch the file again") from error
    except (OSError, EOFError, zlib.error) as error:  # gzip says EOFError where a file was cut off
        raise DumpError(f"{path}: cannot be read whole: {error}. Fetch the file again") from error
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: names may hold U+2028
        if line.strip():
            yield number, line.rstrip("\r")
