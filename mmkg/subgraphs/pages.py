r"""Multimodal subgraphs of pages: a section whose first sentence is to be written, and the page around it.

On the way of a fact: what a build's subgraph is to an entity, this is to a section of a page. Text nodes, in order: the
target section (its rest, without the first sentence), the page (title and description), the target's caption, and the
other sections in page order, each followed by its caption. Edges between them: target to page, section to its caption,
a chain "next" from the page through the other sections and their captions, and parent to child. Image nodes: the
target's, then one of every other section with pictures, tied to their sections by "image of", to each other by a chain
in page order, and from the target's to the nearest, both if two are as near. Where only others have pictures, the
target has an empty slot: a node without vector, so that the first image is always the target's.

The whole page makes one graph; what is not within `num_hops`, or beyond the caps, is left out of it, nearest kept first
and then in page order. Hops are counted apart, in the text graph from the target, in the image graph from its picture.

Source: Graph4MM (arXiv:2510.16990), the graph of WikiWeb2M, as it is meant: in the released code ends of edges are
shifted by one node, parent-child edges never appear, and the image graph does not line up with the images. Not said
there, so ours: one picture a section (the first, or the one that is at hand), a picture only with its section, edges
lost with a node that is left out, and no description that holds the sentence that is to be written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mmkg.errors import ConfigError, NotFound
from mmkg.subgraphs.assemble import EXTRA_RELATIONS, Floats, Ints, MultimodalSubgraph, Picture, assemble, hops_from
from mmkg.tasks.json_files import words
from mmkg.tasks.wikiweb2m import Page, Section, SectionImage

PAGE_RELATIONS = ("page", "caption", "next", "child", "next image", "nearest image", *EXTRA_RELATIONS)
"""The relations of every page, in order of their numbers."""
MAX_TEXT, MAX_IMAGES = 12, 5
"""Graph4MM's caps, target included."""

Vectors = Mapping[str, Floats] | Callable[[str], Floats | None] | None
_Edge = tuple[int, int, int]

_PAGE, _CAPTION, _NEXT, _CHILD, _NEXT_IMAGE, _NEAREST_IMAGE = range(len(PAGE_RELATIONS) - len(EXTRA_RELATIONS))


@dataclass(frozen=True, kw_only=True, eq=False)
class PageSubgraph:
    """The subgraph of a section, and how it lines up with its page.

    Attributes:
        page_id: of the page.
        target: place of the section in the page.
        first_sentence: what is to be written; no node holds it.
        subgraph: text nodes, the target first, then image nodes, in page order.
        sections: (N,) place of the section that a node belongs to; None for the page.
        images: of the image nodes, in their order; None for an empty slot of the target.
        own_hop_N: int64, in the whole page's text graph from the target, or image graph from the target's picture.
        description_hidden: the page's description holds the first sentence, so the page is only its title.
        num_cut_texts, num_cut_images: left out by the caps, or (a picture) with its section.
        num_far_texts, num_far_images: beyond `num_hops`.
    """

    page_id: int
    target: int
    first_sentence: str
    subgraph: MultimodalSubgraph
    sections: tuple[int | None, ...]
    images: tuple[SectionImage | None, ...]
    own_hop_N: Ints
    description_hidden: bool
    num_cut_texts: int
    num_cut_images: int
    num_far_texts: int
    num_far_images: int


def page_subgraph(
    page: Page,
    target: int,
    *,
    max_text: int = MAX_TEXT,
    max_images: int = MAX_IMAGES,
    num_hops: int | None = None,
    chosen: Mapping[int, SectionImage] | None = None,
    text_vectors: Vectors = None,
    image_vectors: Vectors = None,
    dimension: int = 0,
) -> PageSubgraph:
    """Build the subgraph of a section.

    Args:
        page: the page.
        target: place of the section whose first sentence is to be written.
        max_text: most text nodes, the target among them.
        max_images: most image nodes, the target's among them; 0 for a graph of texts.
        num_hops: the paper's tau, in each graph apart; None for all.
        chosen: the picture of a section, such as :func:`find_pictures` found; its first one where none is given.
        text_vectors: (D,) of the text of a node; None, or no such text, for a node without vector.
        image_vectors: (D,) of a picture by its `key`, likewise.
        dimension: D.

    Raises:
        NotFound: the page has no such section.
        ConfigError: caps or hops that leave no target.
        MmkgError: a vector has not D numbers.
    """
    if not 0 <= target < len(page.sections):
        raise NotFound(f"page {page.page_id} has the sections 0 to {len(page.sections) - 1}, found {target}")
    if max_text < 1 or max_images < 0 or (num_hops is not None and num_hops < 0):
        raise ConfigError(
            f"expected max_text >= 1, max_images >= 0 and num_hops >= 0, found {max_text}, {max_images} and {num_hops}"
        )
    whole = _whole_page(page, target, chosen or {})
    texts, cut_texts, far_texts = _nearest(whole.text_hop, range(len(whole.texts)), max_text, num_hops)
    with_section = [
        number for number, place in enumerate(whole.image_sections) if whole.node_of_section[place] in texts
    ]
    images, _, _ = _nearest(whole.image_hop, with_section, max_images, num_hops)
    far_images = sum(
        num_hops is not None and max(hop, whole.text_hop[whole.node_of_section[place]]) > num_hops
        for place, hop in zip(whole.image_sections, whole.image_hop.tolist(), strict=True)
    )
    sections = [whole.text_sections[number] for number in texts] + [whole.image_sections[number] for number in images]
    return PageSubgraph(
        page_id=page.page_id,
        target=target,
        first_sentence=page.sections[target].first_sentence,
        subgraph=_subgraph(page.page_id, whole, texts, images, text_vectors, image_vectors, dimension),
        sections=tuple(sections),
        images=tuple(whole.images[number] for number in images),
        own_hop_N=np.concatenate([whole.text_hop[texts], whole.image_hop[images]]),
        description_hidden=whole.description_hidden,
        num_cut_texts=cut_texts,
        num_cut_images=len(whole.images) - len(images) - far_images,
        num_far_texts=far_texts,
        num_far_images=far_images,
    )


@dataclass(frozen=True, kw_only=True)
class FoundPicture:
    """The picture of a section that is at hand, and its file."""

    image: SectionImage
    path: Path


def find_pictures(folder: Path, page: Page) -> dict[int, FoundPicture]:
    """The first picture of each section that is in a folder, by the place of the section.

    Files are named ``<page>_<section>_<image>.<ext>``, by `page_id`, the place of the section, `image_index` and what
    the picture's address ends in.
    """
    found: dict[int, FoundPicture] = {}
    for place, section in enumerate(page.sections):
        for image in section.images:
            path = folder / picture_name(page.page_id, place, image)
            if path.is_file():
                found[place] = FoundPicture(image=image, path=path)
                break
    return found


def picture_name(page_id: int, section: int, image: SectionImage) -> str:
    """The name of a picture's file in the folder of a data set."""
    return f"{_image_node(page_id, section, image)}.{Path(image.file).suffix.removeprefix('.')}"


@dataclass(kw_only=True)
class _WholePage:
    """The text graph and the image graph of a page, each with its own numbers; the target is number 0 of both."""

    keys: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    text_sections: list[int | None] = field(default_factory=list)
    text_edges: list[_Edge] = field(default_factory=list)
    node_of_section: dict[int, int] = field(default_factory=dict)
    images: list[SectionImage | None] = field(default_factory=list)
    image_sections: list[int] = field(default_factory=list)
    image_edges: list[_Edge] = field(default_factory=list)
    text_hop: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    image_hop: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    description_hidden: bool = False

    def add_text(self, key: str, text: str, section: int | None) -> int:
        self.keys.append(key)
        self.texts.append(text)
        self.text_sections.append(section)
        return len(self.texts) - 1

    def add_caption(self, page_id: int, section: int, picture: SectionImage | None) -> int | None:
        """The caption of a section that was added; None where its picture has none."""
        if picture is None or not picture.caption:
            return None
        caption = self.add_text(f"{page_id}/{section}/caption", picture.caption, section)
        self.text_edges.append((self.node_of_section[section], _CAPTION, caption))
        return caption


def _whole_page(page: Page, target: int, chosen: Mapping[int, SectionImage]) -> _WholePage:
    pictures = {
        place: chosen.get(place, next(iter(section.images), None)) for place, section in enumerate(page.sections)
    }
    others = [place for place in pictures if place != target]
    whole = _WholePage()
    whole.node_of_section[target] = whole.add_text(f"{page.page_id}/{target}", page.sections[target].rest, target)
    whole.description_hidden = _gives_away(page.description, page.sections[target].first_sentence)
    about = page.title if whole.description_hidden or not page.description else f"{page.title}, {page.description}"
    last = whole.add_text(f"{page.page_id}/page", about, None)
    whole.text_edges.append((0, _PAGE, last))
    whole.add_caption(page.page_id, target, pictures[target])
    for place in others:
        node = whole.add_text(f"{page.page_id}/{place}", _text_of(page.sections[place]), place)
        whole.node_of_section[place] = node
        whole.text_edges.append((last, _NEXT, node))
        caption = whole.add_caption(page.page_id, place, pictures[place])
        last = node if caption is None else caption
    whole.text_edges += [
        (whole.node_of_section[section.parent], _CHILD, whole.node_of_section[place])
        for place, section in enumerate(page.sections)
        if section.parent is not None
    ]
    whole.text_hop = _hops(len(whole.texts), whole.text_edges)
    _add_images(whole, target, [place for place in others if pictures[place] is not None], pictures)
    return whole


def _add_images(
    whole: _WholePage, target: int, others: Sequence[int], pictures: Mapping[int, SectionImage | None]
) -> None:
    if pictures[target] is None and not others:
        return
    whole.image_sections = [target, *others]
    whole.images = [pictures[place] for place in whole.image_sections]
    whole.image_edges = [(number, _NEXT_IMAGE, number + 1) for number in range(1, len(others))]
    least = min((abs(place - target) for place in others), default=0)
    whole.image_edges += [
        (0, _NEAREST_IMAGE, number) for number, place in enumerate(others, start=1) if abs(place - target) == least
    ]
    whole.image_hop = _hops(len(whole.images), whole.image_edges)


def _nearest(hops: Ints, numbers: Sequence[int], most: int, num_hops: int | None) -> tuple[list[int], int, int]:
    """The nearest of some nodes, in order of their numbers; how many a cap cut, how many are too far."""
    near = [number for number in numbers if num_hops is None or hops[number] <= num_hops]
    kept = sorted(near, key=lambda number: (hops[number], number))[:most]
    return sorted(kept), len(near) - len(kept), len(numbers) - len(near)


def _subgraph(
    page_id: int,
    whole: _WholePage,
    texts: Sequence[int],
    images: Sequence[int],
    text_vectors: Vectors,
    image_vectors: Vectors,
    dimension: int,
) -> MultimodalSubgraph:
    local = {number: place for place, number in enumerate(texts)}
    text_edges = _kept(whole.text_edges, local)
    pictures: dict[int, list[Picture]] = {}
    for number in images:
        image, section = whole.images[number], whole.image_sections[number]
        vector = None if image is None else _vector(image_vectors, image.key)
        node = Picture(sha256=_image_node(page_id, section, image), vector=vector)
        pictures[local[whole.node_of_section[section]]] = [node]
    subgraph = assemble(
        entity_ids=[whole.keys[number] for number in texts],
        labels=[whole.texts[number] or None for number in texts],
        vectors=[_vector(text_vectors, whole.texts[number]) for number in texts],
        src=text_edges[:, 0],
        relation=text_edges[:, 1],
        dst=text_edges[:, 2],
        num_relations=len(PAGE_RELATIONS) - len(EXTRA_RELATIONS),
        num_seeds=1,
        dimension=dimension,
        pictures=pictures,  # in the order of their sections' nodes: the target's first, then page order
    )
    image_edges = _kept(whole.image_edges, {number: len(texts) + place for place, number in enumerate(images)})
    src_E = np.concatenate([subgraph.src_E, image_edges[:, 0]])
    dst_E = np.concatenate([subgraph.dst_E, image_edges[:, 2]])
    files = [None if (image := whole.images[number]) is None else image.file for number in images]
    return replace(
        subgraph,
        labels=subgraph.labels[: len(texts)] + tuple(files),
        hop_N=hops_from(1, subgraph.num_nodes, src_E, dst_E),
        src_E=src_E,
        relation_E=np.concatenate([subgraph.relation_E, image_edges[:, 1]]),
        dst_E=dst_E,
    )


def _kept(edges: Sequence[_Edge], number_of: Mapping[int, int]) -> Ints:
    """(E, 3): the edges whose two ends are kept, renumbered."""
    found = [
        (number_of[src], relation, number_of[dst])
        for src, relation, dst in edges
        if src in number_of and dst in number_of
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _hops(num_nodes: int, edges: Sequence[_Edge]) -> Ints:
    ends = np.array(edges, dtype=np.int64).reshape(-1, 3)
    return hops_from(1, num_nodes, ends[:, 0], ends[:, 2])


def _vector(vectors: Vectors, key: str) -> Floats | None:
    if vectors is None or not key:
        return None
    return vectors.get(key) if isinstance(vectors, Mapping) else vectors(key)


def _image_node(page_id: int, section: int, image: SectionImage | None) -> str:
    return f"{page_id}_{section}_{'none' if image is None else image.image_index}"


def _text_of(section: Section) -> str:
    return f"{section.first_sentence} {section.rest}".strip()


def _gives_away(description: str, sentence: str) -> bool:
    return bool(sentence) and words(sentence).casefold() in words(description).casefold()
