"""What a run on MARS needs: its files, vectors of what they name, the subsets of dev, and the look-ups' ranks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmkg.embeddings import encode_texts, open_embedder, vector_archive
from mmkg.embeddings.texts import find_texts
from mmkg.evaluation.analogy import AnalogyMetrics, answer_columns, rank_answers, summarise_analogies
from mmkg.evaluation.lookup import answer_frequency_scores, partner_and_neighbour_scores, partner_scores
from mmkg.shards import digest
from mmkg.tasks.mars import MarKG, MarsItem, as_columns, read_candidates, read_markg, read_mars
from mmkg.tasks.mars_controls import clusters, other_partner_mask, own_example_mask, strict_triples, unseen_mask
from mmkg.training.reasoning.mars.recipe import MarsRecipe

UNSEEN, OTHER, OWN = "unseen pairs", "other partner", "example is not the own pair"


@dataclass(frozen=True, eq=False)
class MarsData:
    """The files of MARS and MarKG, and vectors of all entities and relations.

    Attributes:
        markg: the graph.
        train, dev: items.
        candidate_C: what may be answered.
        entity_ND, name_ND, relation_RD: vectors of "name: description", of names, and of relations' names.
        digest: of all that.
    """

    markg: MarKG
    train: tuple[MarsItem, ...]
    dev: tuple[MarsItem, ...]
    candidate_C: npt.NDArray[np.int64]
    entity_ND: npt.NDArray[np.float32]
    name_ND: npt.NDArray[np.float32]
    relation_RD: npt.NDArray[np.float32]
    digest: str

    @cached_property
    def cluster_of_item(self) -> npt.NDArray[np.int64]:
        """Of dev: items of one fact are one."""
        return clusters(self.dev)

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Subsets of dev."""
        return {
            UNSEEN: unseen_mask(self.dev, self.train),
            OTHER: other_partner_mask(self.dev, self.train),
            OWN: ~own_example_mask(self.dev),
        }

    def summarise(self, rank_Q: npt.NDArray[np.float64], *, draws: int) -> AnalogyMetrics:
        """Figures of ranks of dev, by group."""
        return summarise_analogies(rank_Q, self.dev, self.cluster_of_item, self.masks, draws=draws)

    def lookup_ranks(self) -> dict[str, npt.NDArray[np.float64]]:
        """Ranks of dev by what needs no model."""
        columns = answer_columns(as_columns(self.dev)[:, 3], self.candidate_C)
        strict = strict_triples(self.markg, [*self.train, *self.dev])
        scores = {
            "answer frequency": answer_frequency_scores(self.train, self.dev, self.candidate_C),
            "look-up": partner_scores(self.train, self.dev, self.candidate_C),
            "look-up + MarKG neighbours": partner_and_neighbour_scores(
                self.train, self.markg.triples, self.dev, self.candidate_C
            ),
            "look-up + strict MarKG": partner_and_neighbour_scores(self.train, strict, self.dev, self.candidate_C),
        }
        return {name: rank_answers(score_QC, columns) for name, score_QC in scores.items()}


def read_mars_data(recipe: MarsRecipe, data_folder: Path, cache_folder: Path) -> MarsData:
    """Read MARS and MarKG and embed what they name; vectors are kept in the cache, by embedder and text.

    Args:
        recipe: names the embedder.
        data_folder: of MARS, with ``MarKG/`` in it.
        cache_folder: made if it is not there.

    Raises:
        DumpError: a file is missing or broken.
        EmbeddingError: the embedder cannot be had, or has no texts.
    """
    markg = read_markg(data_folder)
    embedder = open_embedder(recipe.embeddings)
    archive = vector_archive(cache_folder, embedder.identity)
    entities = [
        name if description is None else f"{name}: {description}"
        for name, description in zip(markg.names, markg.descriptions, strict=True)
    ]
    relations = list(markg.relation_names)
    encode_texts(embedder, recipe.embeddings, dict.fromkeys([*entities, *markg.names, *relations]), archive)
    train, dev = read_mars(data_folder, "train", markg), read_mars(data_folder, "dev", markg)
    candidate_C = read_candidates(data_folder, markg)
    return MarsData(
        markg=markg,
        train=train,
        dev=dev,
        candidate_C=candidate_C,
        entity_ND=find_texts(archive, entities),
        name_ND=find_texts(archive, list(markg.names)),
        relation_RD=find_texts(archive, relations),
        digest=digest(
            [
                embedder.identity.digest,
                entities,
                list(markg.names),
                relations,
                markg.triples.tolist(),
                [as_columns(items).tolist() for items in (train, dev)],
                [item.relation for item in (*train, *dev)],
                candidate_C.tolist(),
            ]
        ),
    )
