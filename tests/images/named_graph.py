"""A graph of a few entities with names and types, as the tables of a build and the statements they were read from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.config import ImagesConfig
from mmkg.images.discover import discover
from mmkg.shards import write_table
from mmkg.tables import SCHEMAS
from mmkg.terms import RDFS_LABEL

EXAMPLE = "http://example.org/"


@dataclass
class NamedGraph:
    """Entities by IRI with their label; everything else by those IRIs."""

    labels: Mapping[str, str | None]
    types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    triples: Sequence[tuple[str, str, str]] = ()  # ends that have no label are entities too
    literals: Sequence[tuple[str, str, str]] = ()
    raw: Sequence[tuple[str, str, str]] = ()  # an object that begins with " is a literal

    @property
    def entity_ids(self) -> list[str]:
        return sorted({*self.labels, *(end for head, _, tail in self.triples for end in (head, tail))})

    def write(self, folder: Path) -> Path:
        index = {iri: place for place, iri in enumerate(self.entity_ids)}
        relations = sorted({relation for _, relation, _ in self.triples})
        labels = [(iri, RDFS_LABEL, label) for iri, label in self.labels.items() if label is not None]
        literals = [*labels, *self.literals]
        attributes = sorted({attribute for _, attribute, _ in literals})
        rows: dict[str, list[dict[str, Any]]] = {
            "entities": [
                {
                    "entity_id": iri,
                    "entity_index": place,
                    "label": self.labels.get(iri),
                    "types": sorted(self.types.get(iri, ())),
                    "aliases": sorted(self.aliases.get(iri, ())),
                    "sources": 1,
                }
                for iri, place in index.items()
            ],
            "relations": [
                {"relation_index": place, "relation_id": iri, "name": f"r{place}", "count": 1, "functional": False}
                for place, iri in enumerate(relations)
            ],
            "attributes": [
                {"attribute_index": place, "attribute_id": iri, "name": f"a{place}", "count": 1, "num_entities": 1}
                | {"value_type": "text"}
                for place, iri in enumerate(attributes)
            ],
            "triples": [
                {"head_index": index[h], "relation_index": relations.index(r), "tail_index": index[t], "sources": 1}
                for h, r, t in self.triples
            ],
            "literals": [
                {"entity_index": index[iri], "attribute_index": attributes.index(a), "text": text, "sources": 1}
                for iri, a, text in literals
            ],
            "triples_raw": [
                {"head": h, "relation": r, "source": "test", "dump": "test.nt", "line": line, "repaired": False}
                | ({"value": o[1:]} if o.startswith('"') else {"tail": o})
                for line, (h, r, o) in enumerate(self.raw, start=1)
            ],
        }
        for table, of_table in rows.items():
            write_table(folder, table, [pa.Table.from_pylist(of_table, schema=SCHEMAS[table])])
        return folder


@dataclass
class Discovery:
    """What was discovered: candidates and unmatched rows as dictionaries, entities by IRI."""

    candidates: list[dict[str, Any]]
    unmatched: list[dict[str, Any]]
    counts: dict[str, Any]

    def urls(self, iri: str) -> list[str]:
        return [row["url"] for row in self.candidates if row["entity_id"] == iri]

    def matched(self) -> dict[str, str]:
        """The entity by the file of a local picture."""
        return {row["url"].rpartition("/")[2]: row["entity_id"] for row in self.candidates}

    def reasons(self) -> dict[str, str]:
        """The reason by the last part of the place, or by the whole place where it has none."""
        return {row["place"].rpartition("/")[2]: row["reason"] for row in self.unmatched}


def run_discovery(images: ImagesConfig, graph: NamedGraph, folder: Path) -> Discovery:
    """Write the graph, discover pictures of it, read the tables."""
    graph.write(folder / "graph")
    counts = discover(images, folder / "graph", [folder / "graph"], folder / "out")
    candidates = pq.read_table(folder / "out" / "image_candidates").to_pylist()
    ids = graph.entity_ids
    return Discovery(
        [row | {"entity_id": ids[row["entity_index"]]} for row in candidates],
        pq.read_table(folder / "out" / "image_unmatched").to_pylist(),
        counts,
    )


def put_files(folder: Path, names: Iterable[str]) -> Path:
    """Make empty files, which have the names of pictures."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder
