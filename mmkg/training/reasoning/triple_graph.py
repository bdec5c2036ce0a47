"""A graph that questions are looked up in: its triples with vectors of entities and relations, and their pictures.

It comes out of a build, which may bring vectors and pictures, or out of a list of triples in words, such as a
conceptual graph. :func:`retrieve_subgraphs` makes the multimodal subgraph of each question, as the paper does.
Source: Lee et al., ACL 2024, arXiv:2406.02030, appendix A.6.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from mmkg.builds.opened import Build, open_build
from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import Embedder, entity_texts, open_embedder
from mmkg.embeddings.pipeline import in_pieces
from mmkg.errors import DumpError, EmbeddingError, TrainingError
from mmkg.subgraphs import Adjacency
from mmkg.subgraphs.assemble import EXTRA_RELATIONS, Floats, Ints, MultimodalSubgraph, Picture, assemble
from mmkg.subgraphs.retrieve import RetrievalCache, RetrievalConfig, Retrieved
from mmkg.subgraphs.triple_index import ComposedIndex

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class TripleGraph:
    """A graph with vectors.

    Attributes:
        entity_ids, labels: (N,).
        relation_labels: (R,), in words.
        triples: (T, 3) head, relation, tail.
        entity_ND: zeros for an entity without text.
        relation_RD: (R + 2, D), those of `EXTRA_RELATIONS` last.
        embedder: that made the vectors, and makes those of queries.
        pictures: of an entity, by index, the best first.
    """

    entity_ids: Sequence[str]
    labels: Sequence[str]
    relation_labels: Sequence[str]
    triples: Ints
    entity_ND: Floats
    relation_RD: Floats
    embedder: Embedder
    pictures: Mapping[int, Sequence[Picture]] = field(default_factory=dict)

    @property
    def num_relations(self) -> int:
        """R, without the two of `EXTRA_RELATIONS`."""
        return len(self.relation_labels)

    @cached_property
    def index(self) -> ComposedIndex:
        """Of the triples."""
        return ComposedIndex(self.triples, self.entity_ND, self.relation_RD[: self.num_relations])

    @cached_property
    def adjacency(self) -> Adjacency:
        """Of the triples."""
        return Adjacency.from_triples(*self.triples.T, num_entities=len(self.entity_ids))

    def subgraph(self, found: Retrieved, *, max_images: int) -> MultimodalSubgraph:
        """Return what was retrieved as a subgraph: entities of its triples, those of the nearest triple first.

        The seeds are E' as far as the triples that were kept name them.
        """
        triples = self.triples[found.rows]
        named = list(dict.fromkeys(triples[:, [0, 2]].ravel().tolist()))
        is_seed = set(found.seeds.tolist())
        entities = [one for one in named if one in is_seed] + [one for one in named if one not in is_seed]
        place_of = {entity: place for place, entity in enumerate(entities)}
        return assemble(
            entity_ids=[self.entity_ids[entity] for entity in entities],
            labels=[self.labels[entity] for entity in entities],
            vectors=[self.entity_ND[entity] if self.entity_ND[entity].any() else None for entity in entities],
            src=np.array([place_of[head] for head in triples[:, 0].tolist()], np.int64),
            relation=triples[:, 1],
            dst=np.array([place_of[tail] for tail in triples[:, 2].tolist()], np.int64),
            num_relations=self.num_relations,
            num_seeds=sum(entity in is_seed for entity in entities),
            dimension=self.entity_ND.shape[1],
            pictures={place: self.pictures[one] for one, place in place_of.items() if one in self.pictures},
            max_images=max_images,
        )

    def empty(self) -> MultimodalSubgraph:
        """Return the subgraph of nothing."""
        nothing = Retrieved(rows=np.empty(0, np.int64), scores=np.empty(0), seeds=np.empty(0, np.int64), pool_size=0)
        return self.subgraph(nothing, max_images=0)


def graph_of_triples(triples: Iterable[tuple[str, str, str]], embedder: Embedder) -> TripleGraph:
    """Return the graph of triples in words; equal words are one entity, triples that are said twice are one.

    Raises:
        TrainingError: there is no triple.
    """
    said = sorted(set(triples))
    if not said:
        raise TrainingError("a graph to look questions up in needs at least one triple, found none")
    entities = sorted({end for head, _, tail in said for end in (head, tail)})
    relations = sorted({relation for _, relation, _ in said})
    place, number = ({name: index for index, name in enumerate(names)} for names in (entities, relations))
    return TripleGraph(
        entity_ids=entities,
        labels=entities,
        relation_labels=relations,
        triples=np.array([(place[h], number[r], place[t]) for h, r, t in said], np.int64),
        entity_ND=_embed(entities, embedder),
        relation_RD=_embed([*relations, *EXTRA_RELATIONS], embedder),
        embedder=embedder,
    )


def read_named_triples(path: Path) -> list[tuple[str, str, str]]:
    """Read a file of triples in words, one a line: head, relation and tail between tabs.

    Raises:
        DumpError: there is no such file, or a line is another.
    """
    if not path.is_file():
        raise DumpError(f"{path}: expected a file of triples, head TAB relation TAB tail a line, found none")
    found = []
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if len(row) != 3 or not all(cell.strip() for cell in row):
                raise DumpError(f"{path}, line {number}: expected head TAB relation TAB tail, found {row}")
            found.append((row[0].strip(), row[1].strip(), row[2].strip()))
    return found


def graph_of_build(build_folder: Path, embeddings: EmbeddingsConfig) -> TripleGraph:
    """Return the graph of a build: with its own vectors and pictures where it has any, else with texts embedded now.

    Args:
        build_folder: see :func:`mmkg.builds.open_build`.
        embeddings: of a build without vectors; one with vectors says itself what made them.

    Raises:
        EmbeddingError: the embedder that is opened is not the one that made the build's vectors.
        TrainingError: the build has no triple.
    """
    with open_build(build_folder) as build:
        config = (
            EmbeddingsConfig.model_validate(build.manifest.config["embeddings"]) if build.has_vectors else embeddings
        )
        embedder = open_embedder(config)
        if build.has_vectors and build.vectors.identity.digest != embedder.identity.digest:
            raise EmbeddingError(
                f"{build.folder}: its vectors were made by {build.vectors.identity.digest}, the embedder of its config "
                f"is {embedder.identity.digest} here; queries would lie in another space. Run `mmkg build` again."
            )
        triples = build.triples.to_table(columns=["head_index", "relation_index", "tail_index"])
        if not triples.num_rows:
            raise TrainingError(f"{build.folder}: has no triple between entities, so nothing can be looked up in it")
        rows = build.relations.to_table(columns=["label", "name"]).to_pylist()
        relations = [row["label"] or _in_words(row["name"]) for row in rows]
        return TripleGraph(
            entity_ids=build.entities.to_table(columns=["entity_id"])["entity_id"].to_pylist(),
            labels=build.entity_labels,
            relation_labels=relations,
            triples=np.stack([triples[name].to_numpy() for name in triples.column_names], axis=1),
            entity_ND=_entity_vectors(build, embedder, config),
            relation_RD=_embed([*relations, *EXTRA_RELATIONS], embedder),
            embedder=embedder,
            pictures=kept_pictures(build),
        )


def retrieve_subgraphs(
    graph: TripleGraph,
    queries: Sequence[str],
    config: RetrievalConfig,
    *,
    max_images: int = 1,
    cache_folder: Path | None = None,
) -> list[MultimodalSubgraph]:
    """Return the subgraph of each query.

    Args:
        graph: that is looked up in.
        queries: texts.
        config: of the retrieval.
        max_images: pictures of an entity at most.
        cache_folder: what was retrieved is kept there; None keeps it in memory only.
    """
    cache = RetrievalCache(cache_folder, graph.index, graph.adjacency, config)
    found = []
    for query_D in _embed(queries, graph.embedder):
        usable = np.isfinite(query_D).all() and query_D.any()
        found.append(graph.subgraph(cache.retrieve(query_D), max_images=max_images) if usable else graph.empty())
    return found


def _entity_vectors(build: Build, embedder: Embedder, config: EmbeddingsConfig) -> Floats:
    count = build.entities.count_rows()
    if build.has_vectors:
        return build.vectors.texts(np.arange(count))[0]
    texts = list(entity_texts(build.entities, config.text))
    entity_ND = np.zeros((count, embedder.identity.dimension), np.float32)
    if texts:
        entity_ND[[index for index, _ in texts]] = _embed([text for _, text in texts], embedder)
    return entity_ND


def kept_pictures(build: Build) -> dict[int, list[Picture]]:
    """Pictures of entities that were kept, with their vectors; none where the build has no vectors of them."""
    if not (build.has_pictures and build.has_vectors):
        return {}
    rows = build.images.to_table(columns=["entity_index", "rank", "sha256"], filter=pc.field("status") == "ok")
    rows = rows.sort_by([("entity_index", "ascending"), ("rank", "ascending")])
    names = rows["sha256"].to_pylist()
    vectors, there = build.vectors.pictures(names)
    pictures: dict[int, list[Picture]] = {}
    for entity, name, vector, known in zip(rows["entity_index"].to_pylist(), names, vectors, there, strict=True):
        pictures.setdefault(entity, []).append(Picture(sha256=name, vector=vector if known else None))
    return pictures


def _embed(texts: Sequence[str], embedder: Embedder) -> Floats:
    """Vectors (n, D) of texts, zeros where one is not finite."""
    if not texts:
        return np.zeros((0, embedder.identity.dimension), np.float32)
    rows = np.concatenate([embedder.embed_texts(part) for part in in_pieces(texts, _TEXTS_AT_ONCE)])
    rows[~np.isfinite(rows).all(axis=1)] = 0
    return rows


def _in_words(name: str) -> str:
    """A relation's name in words: ``birthPlace`` is "birth place"."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).replace("_", " ").strip()
