"""What has to change in a store that holds one content, so that it holds another.

Both sides are hashed row by row and joined by key, so the cost grows with their size and the result with what differs.
Relationship types with the same digest on both sides are not read at all.

Entities and pictures are nodes; triples and links to pictures are edges. The order in which to apply it: edges removed,
nodes removed (all their edges are among the edges removed), nodes added, nodes changed, edges added, edges changed. An
edge that the old side holds more than once is removed and, if the new
side has it, added: so removing one means all edges of its type between its ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from mmkg.store.columns import EDGES, IMAGE_LINKS, IMAGES, nodes_schema
from mmkg.store.compare import Side, compare_edges, compare_nodes
from mmkg.store.content import Content
from mmkg.store.digest import IMAGE_NODES, LINKS, NODES


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Parquet files of what changes; a side without changes has none. Nodes are sorted by key, edges by both ends."""

    nodes_added: Path | None = None  # columns of the new side's `nodes_schema`
    nodes_changed: Path | None = None  # the same, whole new rows, and the column REMOVE
    nodes_removed: Path | None = None  # only the key, entity_id
    images_added: Path | None = None  # columns of IMAGES
    images_changed: Path | None = None  # the same, whole new rows, and the column REMOVE
    images_removed: Path | None = None  # only the key, sha256
    edges_added: Mapping[str, Path] = field(default_factory=dict)  # relationship type → columns of EDGES
    edges_changed: Mapping[str, Path] = field(default_factory=dict)  # new rows, columns of EDGES
    edges_removed: Mapping[str, Path] = field(default_factory=dict)  # EDGE_KEYS
    image_links_added: Path | None = None  # columns of IMAGE_LINKS
    image_links_changed: Path | None = None  # new rows, columns of IMAGE_LINKS
    image_links_removed: Path | None = None  # EDGE_KEYS
    counts: Mapping[str, int]  # rows of each of the fields above, by the field's name
    edge_counts: Mapping[str, Mapping[str, int]]  # "edges_added" … → relationship type → rows

    @property
    def num_changes(self) -> int:
        """Rows in all files together."""
        return sum(self.counts.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to change."""
        return not self.num_changes

    def examples(self, limit: int = 3) -> list[str]:
        """A few of the changes in words, of each kind at most `limit`."""
        found = []
        for what, kind, key, path in (
            ("entity", "added", "entity_id", self.nodes_added),
            ("entity", "changed", "entity_id", self.nodes_changed),
            ("entity", "removed", "entity_id", self.nodes_removed),
            ("picture", "added", "sha256", self.images_added),
            ("picture", "changed", "sha256", self.images_changed),
            ("picture", "removed", "sha256", self.images_removed),
        ):
            keys = [] if path is None else _head(path, [key], limit)
            found += [f"{what} {kind}: {node}" for (node,) in keys]
        edges = (
            ("added", self.edges_added, self.image_links_added),
            ("changed", self.edges_changed, self.image_links_changed),
            ("removed", self.edges_removed, self.image_links_removed),
        )
        for kind, types, links in edges:
            files = {**types, **({} if links is None else {LINKS: links})}
            rows = ((name, *ends) for name, path in files.items() for ends in _head(path, ["from", "to"], limit))
            for _, (name, start, end) in zip(range(limit), rows, strict=False):
                found.append(f"relationship {kind}: ({start})-[:{name}]->({end})")
        return found


def _head(path: Path, columns: list[str], rows: int) -> list[tuple[str, ...]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=columns):
            return [tuple(row.values()) for row in batch.to_pylist()]
    return []


def find_difference(old: Content | None, new: Content, work_folder: Path, *, memory_limit: str = "2GB") -> Difference:
    """Find what turns a store that holds `old` into one that holds `new`.

    Args:
        old: None for an empty store; then the files are those of `new`.
        new: holds no edge and no entity twice, as content made from tables does.
        work_folder: is made; files of an earlier difference there are replaced.
        memory_limit: of the relational engine; beyond it, it spills into the folder.

    Raises:
        StoreError: `new` holds an entity or an edge twice, or `old` an entity.
    """
    if old is None:
        return _all_of(new)
    work_folder.mkdir(parents=True, exist_ok=True)
    for path in work_folder.glob("*.parquet"):
        path.unlink()
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "temp_directory": str(work_folder / "spill"),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=settings) as connection:
        found: dict[str, tuple[Path, int]] = {}
        schemas = [nodes_schema(content.model.properties) for content in (old, new)]
        if _differ(old, new, NODES):
            sides = (Side(old, old.nodes, schemas[0]), Side(new, new.nodes, schemas[1]))
            found |= compare_nodes(connection, sides, "nodes", work_folder)
        if _differ(old, new, IMAGE_NODES):
            sides = (Side(old, old.images, IMAGES), Side(new, new.images, IMAGES))
            found |= compare_nodes(connection, sides, "images", work_folder)
        names = sorted(name for name in {*old.edges, *new.edges} if _differ(old, new, name))
        edge_files = compare_edges(connection, (old, new), (old.edges, new.edges), names, EDGES, "edges", work_folder)
        if _differ(old, new, LINKS):
            links = _link_files(old), _link_files(new)
            by_type = compare_edges(connection, (old, new), links, [LINKS], IMAGE_LINKS, "image_links", work_folder)
            found |= {kind: files[LINKS] for kind, files in by_type.items() if files}
    paths = {kind: path for kind, (path, _) in found.items()}
    edges = {kind: {name: path for name, (path, _) in files.items()} for kind, files in edge_files.items()}
    edge_counts = {kind: {name: rows for name, (_, rows) in files.items()} for kind, files in edge_files.items()}
    counts = {kind: rows for kind, (_, rows) in found.items()}
    counts |= {kind: sum(types.values()) for kind, types in edge_counts.items() if types}
    return Difference(
        nodes_added=paths.get("nodes_added"),
        nodes_changed=paths.get("nodes_changed"),
        nodes_removed=paths.get("nodes_removed"),
        images_added=paths.get("images_added"),
        images_changed=paths.get("images_changed"),
        images_removed=paths.get("images_removed"),
        edges_added=edges["edges_added"],
        edges_changed=edges["edges_changed"],
        edges_removed=edges["edges_removed"],
        image_links_added=paths.get("image_links_added"),
        image_links_changed=paths.get("image_links_changed"),
        image_links_removed=paths.get("image_links_removed"),
        counts=counts,
        edge_counts=edge_counts,
    )


def _all_of(new: Content) -> Difference:
    """From an empty store: all files of the new side."""
    digest = new.digest
    counts = {"nodes_added": digest.num_nodes, "edges_added": digest.num_edges}
    counts |= {"images_added": digest.num_images, "image_links_added": digest.num_image_links}
    return Difference(
        nodes_added=new.nodes if digest.num_nodes else None,
        images_added=new.images,
        edges_added=new.edges,
        image_links_added=new.image_links,
        counts=counts,
        edge_counts={"edges_added": {name: digest.counts[name] for name in new.edges}},
    )


def _link_files(content: Content) -> Mapping[str, Path]:
    return {} if content.image_links is None else {LINKS: content.image_links}


def _differ(old: Content, new: Content, name: str) -> bool:
    before, now = old.digest, new.digest
    return (before.parts.get(name), before.counts.get(name)) != (now.parts.get(name), now.counts.get(name))
