"""The candidates on their way through the gates: three tables in, and the table `images` out, one row each."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmkg.shards import write_table
from mmkg.tables import IMAGES

_CELL_BYTES = 192  # mean RGB of 8 × 8 cells
_FROM_PICTURE = ("format", "width_px", "height_px", "phash")
_DECIDED = ("rank", "status", "reason", "score", "margin")


@dataclass(slots=True)
class Row:
    """A candidate and what was decided on it."""

    candidate: int  # its row in the table of candidates
    entity_index: int
    place: int  # among the entity's own candidates
    picture: int = -1  # its row in the table of pictures
    status: str = ""  # empty while nothing is decided
    reason: str = ""
    rank: int | None = None
    score: float | None = None
    margin: float | None = None
    duplicate_of: int = -1  # a row in the table of pictures

    def decide(self, status: str, reason: str) -> None:
        """End the candidate's way: `ok`, or a gate that it failed."""
        self.status, self.reason = status, reason


class Pictures:
    """The decoded pictures as columns, each content once; what is found out about them on the way is kept beside."""

    def __init__(self, table: pa.Table) -> None:
        names = ("status", "detail", "width_px", "height_px", "deviation", "num_colours")
        self.table = table
        self.sha256s: list[str] = table["sha256"].to_pylist()
        self.columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in names}
        self.hashes = np.array([int(phash or "0", 16) for phash in table["phash"].to_pylist()], np.uint64)
        cells = b"".join(found or bytes(_CELL_BYTES) for found in table["colours"].to_pylist())
        self.colours = np.frombuffer(cells, np.uint8).reshape(-1, _CELL_BYTES)
        self.num_entities: npt.NDArray[np.int64] = np.zeros(len(self.sha256s), np.int64)
        """That have the picture or a near-duplicate of it; 0 where that was not counted."""

    def sides(self, picture: int) -> tuple[int, int]:
        """Shorter and longer side in px."""
        width, height = self.columns["width_px"][picture], self.columns["height_px"][picture]
        return min(width, height), max(width, height)

    def area(self, picture: int) -> int:
        """Number of pixels."""
        shorter, longer = self.sides(picture)
        return shorter * longer

    def bits_between(self, first: int, second: int) -> int:
        """In how many bits two hashes differ."""
        return int(self.hashes[first] ^ self.hashes[second]).bit_count()


class Judged:
    """All candidates, in their order, and the pictures they lead to.

    Args:
        candidates: the table `image_candidates`.
        resolved: what became of each address: `url`, `status`, `detail`, `sha256`, `licence`, `author`, `source_page`.
        pictures: the table `pictures`, without `normalised`.
    """

    def __init__(self, candidates: pa.Table, resolved: pa.Table, pictures: pa.Table) -> None:
        found = resolved.take(pc.index_in(candidates["url"], resolved["url"]))
        self.pictures = Pictures(pictures)
        self.urls = candidates["url"]
        self.facts = {
            **{name: candidates[name] for name in ("entity_index", "url", "origin")},
            "sha256": found["sha256"],
            **{name: pc.coalesce(candidates[name], found[name]) for name in ("licence", "author", "source_page")},
        }
        self.rows = list(self._read(candidates, found))

    def _read(self, candidates: pa.Table, found: pa.Table) -> Iterator[Row]:
        place_of = {sha256: place for place, sha256 in enumerate(self.pictures.sha256s)}
        columns = [candidates["entity_index"], candidates["place"]]
        columns += [found[name] for name in ("status", "detail", "sha256")]
        lists = zip(*(column.to_pylist() for column in columns), strict=True)
        for number, (entity_index, place, status, detail, sha256) in enumerate(lists):
            row = Row(number, entity_index, place)
            if status is None:
                row.decide("not_tried", "its address was never asked")
            elif status != "ok":
                row.decide(status, detail or status)
            elif sha256 not in place_of:
                row.decide("not_decoded", f"nobody decoded {sha256 or 'it'}")
            else:
                row.picture = place_of[sha256]
                status, detail = (self.pictures.columns[name][row.picture] for name in ("status", "detail"))
                if status != "ok":
                    row.decide(status, detail or status)
            yield row

    def left(self) -> list[Row]:
        """Candidates on which nothing is decided yet."""
        return [row for row in self.rows if not row.status]

    def left_by_entity(self) -> list[list[Row]]:
        """Those of each entity, in the order of the candidates."""
        groups: dict[int, list[Row]] = defaultdict(list)
        for row in self.left():
            groups[row.entity_index].append(row)
        return list(groups.values())

    def url(self, row: Row) -> str:
        """Address of a candidate."""
        return str(self.urls[row.candidate].as_py())

    def write(self, folder: Path) -> dict[str, int]:
        """Write the table `images` into a stage's folder; how many candidates, entities with a picture, statuses."""
        taken = [row.picture if row.picture >= 0 else None for row in self.rows]
        seen = self.pictures.table.select(_FROM_PICTURE).take(pa.array(taken, pa.int64()))
        sha256s = self.pictures.sha256s
        table = pa.table(
            {
                **self.facts,
                **{name: seen[name] for name in _FROM_PICTURE},
                **{name: [getattr(row, name) for row in self.rows] for name in _DECIDED},
                "num_entities": [self._num_entities(row) for row in self.rows],
                "duplicate_of": pa.array(
                    [sha256s[row.duplicate_of] if row.duplicate_of >= 0 else None for row in self.rows], pa.string()
                ),
            }
        )
        types = {f.name: pa.string() if pa.types.is_dictionary(f.type) else f.type for f in IMAGES}
        plain = pa.table({name: table[name].cast(kind) for name, kind in types.items()})
        write_table(folder, "images", [plain])
        statuses = Counter(row.status for row in self.rows)
        entities = len({row.entity_index for row in self.rows if row.status == "ok"})
        counts = {"candidates": len(self.rows), "entities": entities, "ok": statuses["ok"]}
        return counts | dict(sorted(statuses.items()))

    def _num_entities(self, row: Row) -> int | None:
        return (int(self.pictures.num_entities[row.picture]) or None) if row.picture >= 0 else None
