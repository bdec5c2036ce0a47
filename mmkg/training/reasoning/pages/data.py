"""Questions "write this section's first sentence" out of pages: splits by page, subgraphs, pictures, and what was cut.

The prompt has the section's rest; the subgraph has it as its target, the page, captions, other sections and pictures
(see :mod:`mmkg.subgraphs.pages`). Sections of a page are not independent: they fall into one split, and a question's
cluster is its page.

Hops are those of the text graph and of the image graph apart, as the paper has them. Ours: a first sentence without a
letter or digit (a lone list sign) is not asked for, since scores have no word of it to count.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.embeddings import Embedder, open_embedder
from mmkg.embeddings.pipeline import in_pieces
from mmkg.errors import ConfigError, DumpError, TrainingError
from mmkg.shards import digest
from mmkg.subgraphs.assemble import Floats, MultimodalSubgraph
from mmkg.subgraphs.pages import PAGE_RELATIONS, FoundPicture, PageSubgraph, find_pictures, page_subgraph
from mmkg.tasks.json_files import Reject, count_reasons
from mmkg.tasks.wikiweb2m import Page, stream_pages
from mmkg.tasks.wikiweb2m_samples import official_split, section_samples, split_pages
from mmkg.training.reasoning.pages.recipe import PagesConfig, PagesRecipe
from mmkg.training.reasoning.pages.texts import about_of, lead_of, prompt_of
from mmkg.training.reasoning.patches import embed_patches
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet

SPLITS = ("train", "valid", "test")
_PAGES_AT_ONCE = 32  # whose texts and pictures are embedded together


@dataclass(frozen=True, kw_only=True, eq=False)
class PagesData:
    """Everything that a run reads.

    Attributes:
        questions: sections of pages of each split, in page order.
        train_pages: pages of the questions to learn from.
        controls: name -> key of a question -> what is said of it without a model.
        sentences: first sentences to learn from.
    """

    questions: QuestionSet
    train_pages: Sequence[Page]
    controls: Mapping[str, Mapping[str, str]]
    sentences: Sequence[str]

    def reporting(self, split: str) -> "PagesData":
        """Return the data with the questions of a split as those to report on."""
        return replace(self, questions=self.questions.reporting(split))


def prepare_pages(recipe: PagesRecipe, data: Path, *, pictures_folder: Path | None = None) -> PagesData:
    """Read pages, split them, and make a question of each section that can be asked about.

    Args:
        recipe: what is asked and shown, and what makes vectors.
        data: a file of pages, or a folder with such files, which are read in the order of their names; see
            :func:`~mmkg.tasks.wikiweb2m.stream_pages`.
        pictures_folder: their pictures, see :func:`~mmkg.subgraphs.pages.find_pictures`; None for a graph of texts.

    Raises:
        ConfigError: there is no such folder of pictures.
        DumpError: a file is missing or empty, or there is none in the folder.
        TrainingError: nothing is left to learn from, or to report on.
    """
    if pictures_folder is not None and not pictures_folder.is_dir():
        raise ConfigError(f"{pictures_folder}: expected a folder of pictures, found none; leave it out to read texts")
    rejects: list[Reject] = []
    maker = _Maker(recipe, pictures_folder)
    pages = _with_splits(stream_pages(page_files(data), rejects), recipe.data, maker.told["pages"])
    for window in in_pieces(pages, _PAGES_AT_ONCE):
        maker.add(window)
        if maker.is_full:
            break
    asked = maker.questions
    if not asked["train"] or not asked["test"]:
        found = ", ".join(f"{len(asked[split]):,} of {split}" for split in SPLITS)
        raise TrainingError(
            f"{data}: expected sections to learn from and to report on, found {found}; pages: "
            f"{_shown(maker.told['pages'])}; left out: {_shown(maker.told['left_out'])}; rejected: "
            f"{_shown(count_reasons(rejects))}. Small files need data.split = 'drawn' and several pages"
        )
    told = {name: dict(sorted(counts.items())) for name, counts in maker.told.items()}
    return PagesData(
        questions=QuestionSet(
            **asked,
            relation_RD=np.zeros((len(PAGE_RELATIONS), maker.dimension), np.float32),
            embedder=digest(["pages", list(PAGE_RELATIONS), maker.made_by]),
            told={**told, "rejects": count_reasons(rejects)},
        ),
        train_pages=maker.train_pages,
        controls=maker.controls,
        sentences=[question.answer for question in asked["train"]],
    )


def page_files(data: Path) -> list[Path]:
    """Return the files of pages that a path names, in the order of their names.

    Raises:
        DumpError: it is a folder without such a file.
    """
    if not data.is_dir():
        return [data]
    found = sorted(
        path
        for path in data.iterdir()
        if path.is_file() and (".tfrecord" in path.name or path.name.removesuffix(".gz").endswith(".jsonl"))
    )
    if not found:
        raise DumpError(f"{data}: expected files of pages (.tfrecord, .jsonl or .jsonl.gz) in the folder, found none.")
    return found


def _with_splits(pages: Iterator[Page], config: PagesConfig, told: Counter[str]) -> Iterator[tuple[Page, str]]:
    """Pages with their split; those that have none are counted and left out."""
    drawn: dict[int, str] = {}
    if config.split == "drawn":
        pages, everything = iter(()), list(pages)
        train_share = 1 - config.valid_share - config.test_share
        shares = dict(zip(SPLITS, (train_share, config.valid_share, config.test_share), strict=True))
        parts = split_pages([page.page_id for page in everything], shares, random_seed=config.split_seed)
        drawn = {page_id: split for split, found in parts.items() for page_id in found}
        pages = iter(everything)
    for page in pages:
        split = drawn.get(page.page_id) if config.split == "drawn" else _named_split(page, config)
        told[split or "without_split"] += 1
        if split is not None:
            yield page, split


def _named_split(page: Page, config: PagesConfig) -> str | None:
    named = page.split if config.split == "file" else official_split(page.page_id)
    split = {"val": "valid", "validation": "valid"}.get(named or "", named)
    return split if split in SPLITS else None


class _Maker:
    """Makes questions of pages, some pages at a time."""

    def __init__(self, recipe: PagesRecipe, pictures_folder: Path | None) -> None:
        self.recipe, self.config, self.folder = recipe, recipe.data, pictures_folder
        self.limits = {"train": self.config.max_train, "valid": self.config.max_valid, "test": self.config.max_test}
        self.questions: dict[str, list[GraphQuestion]] = {split: [] for split in SPLITS}
        self.controls: dict[str, dict[str, str]] = {"rest's first sentence": {}, "page's first sentence": {}}
        self.train_pages: list[Page] = []
        self.told: dict[str, Counter[str]] = {
            name: Counter() for name in ("pages", "left_out", "nodes", "pictures", "questions")
        }
        self.reads_texts = recipe.model.reads_graph and recipe.model.node_text == "vectors"
        self.embedder: Embedder | None = None
        if self.reads_texts or (recipe.model.reads_graph and pictures_folder is not None):
            self.embedder = open_embedder(recipe.embeddings)
        self.dimension = 0 if self.embedder is None else self.embedder.identity.dimension
        self.made_by = "texts as they are" if self.embedder is None else self.embedder.identity.digest

    @property
    def is_full(self) -> bool:
        """Whether no split takes another question."""
        return all(map(self._is_full, SPLITS))

    def add(self, window: Sequence[tuple[Page, str]]) -> None:
        """Make the questions of some pages."""
        open_ones = [(page, split) for page, split in window if not self._is_full(split)]
        pictures = {page.page_id: self._pictures(page) for page, _ in open_ones}
        vectors = self._embed_pictures(pictures)
        made: list[tuple[Page, str, PageSubgraph]] = []
        for page, split in open_ones:
            of_page = {
                picture.image.key: vectors[picture.path.name]
                for picture in pictures[page.page_id].values()
                if picture.path.name in vectors
            }
            made += [(page, split, self._subgraph(page, target, pictures, of_page)) for target in self._asked(page)]
        texts = self._embed_texts([found.subgraph for _, _, found in made])
        for page, split, found in made:
            if not self._is_full(split):
                self._add_question(page, split, replace(found, subgraph=self._finished(found, texts)))

    def _is_full(self, split: str) -> bool:
        most = self.limits[split]
        return most is not None and len(self.questions[split]) >= most

    def _asked(self, page: Page) -> Iterator[int]:
        for sample in section_samples(page, lists=self.config.lists):
            reason = sample.reason
            if reason is None and not any(map(str.isalnum, page.sections[sample.section].first_sentence)):
                reason = "first_sentence_without_words"
            if reason is None:
                yield sample.section
            else:
                self.told["left_out"][reason] += 1

    def _pictures(self, page: Page) -> dict[int, FoundPicture]:
        """Those that are at hand, by section."""
        if self.folder is None:
            return {}
        found = find_pictures(self.folder, page)
        with_pictures = sum(bool(section.images) for section in page.sections)
        self.told["pictures"]["sections_with_pictures"] += with_pictures
        self.told["pictures"]["without_file"] += with_pictures - len(found)
        return found

    def _embed_pictures(self, pictures: Mapping[int, Mapping[int, FoundPicture]]) -> dict[str, Floats]:
        """Name of a file -> (D,)."""
        files = {one.path.name: one.path for of_page in pictures.values() for one in of_page.values()}
        if self.embedder is None or not files:
            return {}
        rows, failed = embed_patches(files.items(), self.embedder, grid=1)
        self.told["pictures"].update(failed.values())
        self.told["pictures"]["with_vector"] += len(rows)
        return {name: row_1D[0] for name, row_1D in rows.items()}

    def _subgraph(
        self,
        page: Page,
        target: int,
        pictures: Mapping[int, Mapping[int, FoundPicture]],
        vectors: Mapping[str, Floats],
    ) -> PageSubgraph:
        return page_subgraph(
            page,
            target,
            max_text=self.config.max_texts,
            max_images=0 if self.folder is None else self.config.max_images,
            num_hops=self.config.num_hops,
            chosen={place: found.image for place, found in pictures[page.page_id].items()},
            image_vectors=vectors,
            dimension=self.dimension,
        )

    def _embed_texts(self, subgraphs: Sequence[MultimodalSubgraph]) -> dict[str, Floats]:
        """Text of a node -> (D,); none where nodes are read in another way."""
        if not self.reads_texts or self.embedder is None:
            return {}
        said = (
            label
            for subgraph in subgraphs
            for label, is_image in zip(subgraph.labels, subgraph.is_image.tolist(), strict=True)
            if label and not is_image
        )
        texts = list(dict.fromkeys(said))
        pieces = in_pieces(texts, self.recipe.embeddings.batch_size)
        rows = [row_D for piece in pieces for row_D in self.embedder.embed_texts(piece)]
        return {text: row_D for text, row_D in zip(texts, rows, strict=True) if np.isfinite(row_D).all()}

    def _finished(self, found: PageSubgraph, vectors: Mapping[str, Floats]) -> MultimodalSubgraph:
        """The subgraph with vectors of its texts, and hops of its two graphs apart."""
        graph = found.subgraph
        vector_ND, known_N = graph.vector_ND.copy(), graph.has_vector_N.copy()
        for place, label in enumerate(graph.labels):
            if label is not None and label in vectors and not graph.is_image[place]:
                vector_ND[place], known_N[place] = vectors[label], True
        return replace(graph, hop_N=found.own_hop_N, vector_ND=vector_ND, has_vector_N=known_N)

    def _add_question(self, page: Page, split: str, found: PageSubgraph) -> None:
        key = f"{page.page_id}/{found.target}"
        question = GraphQuestion(
            key=key,
            text=prompt_of(page, found, self.config),
            subgraph=found.subgraph,
            answer=found.first_sentence,
            cluster=str(page.page_id),
        )
        self.questions[split].append(question)
        if split == "train" and (not self.train_pages or self.train_pages[-1] is not page):
            self.train_pages.append(page)
        self.controls["rest's first sentence"][key] = lead_of(page, found.target)
        self.controls["page's first sentence"][key] = about_of(page, found.target)
        nodes, asked = self.told["nodes"], self.told["questions"]
        nodes["texts"] += int((~found.subgraph.is_image).sum())
        nodes["texts_beyond_the_slots"] += found.num_cut_texts
        nodes["texts_too_far"] += found.num_far_texts
        if self.folder is not None:
            nodes["images"] += int(found.subgraph.is_image.sum())
            nodes["images_beyond_the_slots"] += found.num_cut_images
            nodes["images_too_far"] += found.num_far_images
        asked["asked"] += 1
        asked["description_hidden"] += int(found.description_hidden)
        asked["sentence_stands_elsewhere"] += int(_stands_elsewhere(question))


def _stands_elsewhere(question: GraphQuestion) -> bool:
    """Whether some text that is read holds the sentence that is to be written."""
    sentence = question.answer.casefold()
    texts = [question.text, *(label for label in question.subgraph.labels if label)]
    return any(sentence in text.casefold() for text in texts)


def _shown(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
