r"""Topics of GitHub: 1,255 subjects of software with a text, most of them with a logo, and which are related.

A line of ``nodes.jsonl.gz``::

    {"id": "3ds-homebrew", "display_name": "Nintendo 3DS Homebrew", "short_description": "3DS Homebrew is …",
     "body": "Homebrew, when applied to video games, …", "wikipedia_url": "https://en.wikipedia.org/wiki/…",
     "aliases": "nintendo-3ds-homebrew, 3ds-custom-firmware", "created_by": "Nintendo", "released": 2011,
     "logo": "3ds-homebrew.png"}

and of ``edges.tsv.gz``, whose last column says whether the target has a line of its own among the nodes::

    3d ⇥ related ⇥ animation ⇥ 1

``logos/`` holds the pictures. In the files is not: what joins two topics (an edge says *related*, whoever wrote the
topic saw fit, and often one side only), and why a target has no page.

Address: https://github.com/github/explore, folder ``topics`` (front matter and body of each ``index.md``). Licence:
CC BY 4.0; logos are trademarks of their owners.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.errors import DumpError
from mmkg.tasks.edge_split import Int64Array, undirected_pairs
from mmkg.tasks.line_files import numbered_lines, require_lines

logger = logging.getLogger(__name__)

_MOST_SHOWN = 80  # characters of a broken line
_TEXTS = ("id", "display_name", "short_description", "body")


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A subject.

    Attributes:
        topic_id: the official name, such as ``3ds-homebrew``.
        display_name: for people.
        short_description: a sentence.
        body: a paragraph or more in Markdown; two topics have "".
        wikipedia_url: the page of the same subject, None without one.
        aliases: other names.
        created_by: people or a firm as written, None where not said.
        released: a year or a date as written, None where not said.
        logo: path of the picture, None without one.
    """

    topic_id: str
    display_name: str
    short_description: str
    body: str
    wikipedia_url: str | None
    aliases: tuple[str, ...]
    created_by: str | None
    released: str | None
    logo: Path | None

    @property
    def text(self) -> str:
        """Name, sentence and body, as a text encoder reads them."""
        return "\n".join(part for part in (self.display_name, self.short_description, self.body) if part)


@dataclass(frozen=True, kw_only=True, eq=False)
class TopicsGraph:
    """What was read of a folder.

    Attributes:
        topics: in the order of the file; the index of a topic is its place here.
        edge_E2: (src, dst) indices of the edges between topics, as written: not every one has its reverse.
        num_outside: edges whose target is no topic of the file.
        num_logos_missing: topics that name a logo which is not in the folder; their `logo` is None.
    """

    topics: tuple[Topic, ...]
    edge_E2: Int64Array
    num_outside: int
    num_logos_missing: int

    @cached_property
    def index_of(self) -> Mapping[str, int]:
        """Index of each topic by its id."""
        return {topic.topic_id: index for index, topic in enumerate(self.topics)}

    @property
    def pairs(self) -> Int64Array:
        """(P, 2) related topics without direction, for :func:`mmkg.tasks.edge_split.split_edges`."""
        return undirected_pairs(self.edge_E2, len(self.topics))


def read_topics(folder: Path) -> TopicsGraph:
    """Read the topics of a folder, their edges and where their logos lie.

    Args:
        folder: holds ``nodes.jsonl``, ``edges.tsv`` (each plain or gzipped) and ``logos/``.

    Raises:
        DumpError: a file is missing or cut, a line is not what the files hold, a topic stands twice, an edge begins at
            no topic, or its last column contradicts the file of nodes.
    """
    path = require_lines(folder, "nodes.jsonl")
    topics: dict[str, Topic] = {}
    missing = 0
    for number, line in numbered_lines(path):
        topic, logo_missing = _topic(path, number, line, folder / "logos")
        if topic.topic_id in topics:
            raise DumpError(f"{path}, line {number}: expected every topic once, found {topic.topic_id!r} again.")
        topics[topic.topic_id] = topic
        missing += logo_missing
    if not topics:
        raise DumpError(f"{path}: expected a topic a line, found none. Fetch the file again.")
    edge_E2, outside = _read_edges(
        require_lines(folder, "edges.tsv"), {name: index for index, name in enumerate(topics)}
    )
    logger.info("%s: %s topics, %s edges, %s to elsewhere", path, f"{len(topics):,}", f"{len(edge_E2):,}", outside)
    if missing:
        logger.warning("%s: %s logos are named but not there", folder / "logos", f"{missing:,}")
    return TopicsGraph(topics=tuple(topics.values()), edge_E2=edge_E2, num_outside=outside, num_logos_missing=missing)


def _topic(path: Path, number: int, line: str, logos: Path) -> tuple[Topic, bool]:
    """A topic, and whether it names a logo that is not there."""
    where = f"{path}, line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DumpError(f"{where}: expected JSON, found {line[:_MOST_SHOWN]!r} ({error}). Fetch it again.") from error
    if not isinstance(row, dict):
        raise DumpError(f"{where}: expected an object with {', '.join(_TEXTS)}, found {line[:_MOST_SHOWN]!r}.")
    for name in _TEXTS:
        if not isinstance(row.get(name), str):
            raise DumpError(f"{where}, {name}: expected a text, found {row.get(name)!r}. Is it another file?")
    if not row["id"]:
        raise DumpError(f"{where}, id: expected a name, found ''.")
    logo = _optional(row, "logo", where)
    if logo is not None and (logo in (".", "..") or "/" in logo or "\\" in logo):  # it becomes a part of a path
        raise DumpError(f"{where}, logo: expected a file name or null, found {logo!r}.")
    logo_path = logos / logo if logo is not None and (logos / logo).is_file() else None
    aliases = (_optional(row, "aliases", where) or "").split(",")
    topic = Topic(
        topic_id=row["id"],
        display_name=row["display_name"],
        short_description=row["short_description"],
        body=row["body"],
        wikipedia_url=_optional(row, "wikipedia_url", where),
        aliases=tuple(alias.strip() for alias in aliases if alias.strip()),
        created_by=_optional(row, "created_by", where),
        released=_optional(row, "released", where),
        logo=logo_path,
    )
    return topic, logo is not None and logo_path is None


def _optional(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """A text, a number as a text, or None for what is missing or empty."""
    found = row.get(name)
    if found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise DumpError(f"{where}, {name}: expected a text, a number or null, found {found!r}.")
    return str(found)


def _read_edges(path: Path, index_of: Mapping[str, int]) -> tuple[Int64Array, int]:
    edges: list[tuple[int, int]] = []
    outside = 0
    for number, line in numbered_lines(path):
        columns = line.split("\t")
        if len(columns) != 4 or columns[1] != "related" or columns[3] not in ("0", "1"):
            raise DumpError(
                f"{path}, line {number}: expected topic TAB related TAB topic TAB 0 or 1, found {line[:_MOST_SHOWN]!r}."
            )
        source, target, inside = columns[0], columns[2], columns[3] == "1"
        if source not in index_of:
            raise DumpError(f"{path}, line {number}: expected a topic of the file of nodes, found {source!r}.")
        if inside != (target in index_of):
            verb = "is" if target in index_of else "is not"
            raise DumpError(
                f"{path}, line {number}: the last column is {columns[3]}, but {target!r} {verb} a topic of the file of "
                "nodes. The two files are of different releases; fetch both again."
            )
        if inside:
            edges.append((index_of[source], index_of[target]))
        else:
            outside += 1
    return np.array(edges, dtype=np.int64).reshape(-1, 2), outside
