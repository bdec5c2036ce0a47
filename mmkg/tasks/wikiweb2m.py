r"""WikiWeb2M: 2 million English Wikipedia pages, their sections, and pictures where they stand; and JSON lines alike.

Official files are gzipped TFRecords, a page a record: fields of the page in the context, of its sections and their
pictures in feature lists. A JSON line has the same names, the pictures inside their sections, shorter names allowed::

    {"page_title": "Asda", "page_url": "https://en.wikipedia.org/wiki/Asda", "main_image": "Asda House.jpg",
     "sections": [{"section_index": 0, "section_title": "Asda", "section_depth": 0, "section_parent_index": -1,
                   "section_text": "Asda is a supermarket. It …", "section_images": [{"file": "Store.jpg",
                   "caption": "A store"}]}]}

In neither are the pictures themselves. The lists of pictures are padded in the official files; here a section has its
real ones only, each with the place that it had (`image_index`), since files of pictures are named by that place. A line
has no ``section_clean_1st_sentence`` as a rule: then :func:`split_first_sentence` parts its ``section_text``.

Address: https://github.com/google-research-datasets/wit/blob/main/wikiweb2m.md . Licence: CC BY-SA 3.0. Citation:
Burns et al., A Suite of Generative Tasks for Multi-Level Multimodal Webpage Understanding, EMNLP 2023,
arXiv:2305.03668.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkg.tasks.first_sentence import split_first_sentence
from mmkg.tasks.json_files import Reject, count_reasons, is_whole, words
from mmkg.tasks.wikiweb2m_records import PAD, BadRecordError, read_page_records

logger = logging.getLogger(__name__)

_LIST_LINE = re.compile(r"^\s*(?:[*#;:]|\{\|)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionImage:
    """A picture of a section.

    Attributes:
        image_index: its place in the section's row of the padded table, which its file is named by.
        file: its name, the last part of the address where there is one.
        url: its address; None in JSON lines that do not give it.
        caption: "" without one; in official files alternative text, attribution and reference, joined by commas.
        alt_text, attribution, raw_attribution, reference, raw_reference: what the caption is made of.
        mime_type, width_px, height_px, in_wit, is_caption_sample: as the file says; None where it does not.
    """

    image_index: int
    file: str
    url: str | None = None
    caption: str = ""
    alt_text: str = ""
    attribution: str = ""
    raw_attribution: str = ""
    reference: str = ""
    raw_reference: str = ""
    mime_type: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    in_wit: bool | None = None
    is_caption_sample: bool | None = None

    @property
    def key(self) -> str:
        """What the picture is known by, on whatever page it stands: its address, else the name of its file."""
        return self.url or self.file


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A section of a page; it is named by its place among the page's sections, from 0.

    Attributes:
        index: the file's own number, which is the place as a rule.
        title: of its heading.
        depth: 0 for the lead of the page; None where the file does not say.
        parent: place of the section that it belongs to; None for the root.
        text: whole, with its line ends.
        first_sentence: what is to be written, "" without one; with single spaces, like `rest`.
        rest: what it is to be written from, "" without any.
        raw_first_sentence: as on the page.
        images: real ones, in order.
        heading_level, subsections: as the file says.
        contains_table_or_list: as the file says; where it does not, whether a line begins with ``*``, ``#``, ``;``,
            ``:`` or ``{|``.
        is_sample: whether the file takes it for writing first sentences; None where it does not say.
    """

    index: int
    title: str
    depth: int | None
    parent: int | None
    text: str
    first_sentence: str
    rest: str
    raw_first_sentence: str = ""
    images: tuple[SectionImage, ...] = ()
    heading_level: int | None = None
    subsections: tuple[int, ...] = ()
    contains_table_or_list: bool = False
    contains_images: bool | None = None
    is_sample: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page.

    Attributes:
        page_id: its place among the records of all files that were read, rejects counted, from 0.
        title, url: of the page; the url is "" where the file has none.
        description: clean; "" where the file has none. It is often the first section once more.
        raw_description: as on the page.
        main_image: name of the picture in the box beside the lead, None without one.
        sections: in order.
        split: the file's own; the split of Graph4MM is :func:`official_split`.
        contains_images, num_plain_sections, is_description_sample: as the file says; None where it does not.
            `num_plain_sections` are those with content and without table or list.
    """

    page_id: int
    title: str
    url: str
    sections: tuple[Section, ...]
    description: str = ""
    raw_description: str = ""
    main_image: str | None = None
    split: str | None = None
    contains_images: bool | None = None
    num_plain_sections: int | None = None
    is_description_sample: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Pages in the order of their files, and what of the files cannot be used."""

    pages: tuple[Page, ...]
    rejects: tuple[Reject, ...]


def read_pages(paths: Path | Sequence[Path]) -> Pages:
    """Read all pages of some files into memory; see :func:`stream_pages`."""
    rejects: list[Reject] = []
    pages = tuple(stream_pages(paths, rejects))
    logger.info("%s pages, rejected %s", f"{len(pages):,}", count_reasons(rejects))
    return Pages(pages=pages, rejects=tuple(rejects))


def stream_pages(paths: Path | Sequence[Path], rejects: list[Reject]) -> Iterator[Page]:
    """Read pages one at a time, of TFRecord files or of JSON lines, as a file's name says.

    A record that was cut or has another checksum is a reject, and the last thing that is read of its file; numbers of
    pages in later files are then too small. A page that comes twice (by its address) is a reject, too.

    Args:
        paths: in the order that pages are numbered in. A name holds ``.tfrecord``, or ends in .jsonl or .jsonl.gz.
        rejects: pages, and pictures of pages, that cannot be used are added here.

    Raises:
        DumpError: a file is missing or empty, or its name says nothing.
    """
    page_id, seen = 0, set[str]()
    for path in [paths] if isinstance(paths, Path) else paths:
        for item, found in read_page_records(path):
            within: list[Reject] = []
            try:
                if isinstance(found, BadRecordError):
                    raise found
                page = _page(page_id, found, path.name, item, within)
                _check_new(page, seen)
            except BadRecordError as bad:
                rejects.append(Reject(file=path.name, item=item, reason=bad.reason, detail=bad.detail))
            else:
                rejects += within
                yield page
            page_id += 1


def _check_new(page: Page, seen: set[str]) -> None:
    if page.url in seen:
        raise BadRecordError("repeated_page", f"expected every page once, found {page.url} again")
    if page.url:
        seen.add(page.url)


def _page(page_id: int, record: Mapping[str, Any], file: str, item: str, rejects: list[Reject]) -> Page:
    title, found = _text(record, "page_title"), record.get("sections")
    if not words(title):
        raise BadRecordError("no_title", "page_title: expected a text, found none")
    if not isinstance(found, list) or not found:
        raise BadRecordError("no_sections", "sections: expected one or more, found none")
    if not all(isinstance(entry, dict) for entry in found):
        raise BadRecordError("bad_field", "sections: expected objects, found others")
    parents = _parents(found)
    sections: list[Section] = []
    for place, entry in enumerate(found):
        images: list[SectionImage] = []
        for number, image in enumerate(_list(entry, "section_images")):
            if image is PAD:
                continue
            try:
                images.append(_image(image, number))
            except BadRecordError as bad:
                what = f"{item}, section {place}, picture {number}"
                rejects.append(Reject(file=file, item=what, reason=bad.reason, detail=bad.detail))
        sections.append(_section(entry, place, parents[place], tuple(images)))
    return Page(
        page_id=page_id,
        title=words(title),
        url=_text(record, "page_url"),
        sections=tuple(sections),
        description=words(_text(record, "clean_page_description")),
        raw_description=_text(record, "raw_page_description"),
        main_image=_text(record, "main_image") or None,
        split=_text(record, "split") or None,
        contains_images=_flag(record, "page_contains_images"),
        num_plain_sections=_whole(record, "page_content_sections_without_table_list"),
        is_description_sample=_flag(record, "is_page_description_sample"),
    )


def _parents(entries: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """The place of each section's parent. The first section is the root, also where it names itself."""
    place_of: dict[int, int] = {}
    for place, entry in enumerate(entries):
        if place_of.setdefault(_index(entry, place), place) != place:
            raise BadRecordError("repeated_section", f"section_index: found {_index(entry, place)} twice")
    parents: list[int | None] = []
    for place, entry in enumerate(entries):
        index = _whole(entry, "section_parent_index")
        if index is None or index == -1 or (place == 0 and index == _index(entry, 0)):
            parents.append(None)
        elif index in place_of:
            parents.append(place_of[index])
        else:
            raise BadRecordError(
                "no_such_parent", f"section {place}: expected -1 or a section as parent, found {index}"
            )
    rooted: set[int] = set()
    for start in range(len(parents)):
        way: dict[int, None] = {}
        at: int | None = start
        while at is not None and at not in rooted:
            if at in way:
                raise BadRecordError("cyclic_parents", f"section {at}: its parents lead back to it")
            way[at] = None
            at = parents[at]
        rooted |= way.keys()
    return parents


def _section(entry: Mapping[str, Any], place: int, parent: int | None, images: tuple[SectionImage, ...]) -> Section:
    text = _text(entry, "section_text")
    first, rest = words(_text(entry, "section_clean_1st_sentence")), words(_text(entry, "section_rest_sentence"))
    if entry.get("section_clean_1st_sentence") is None and entry.get("section_rest_sentence") is None:
        first, rest = split_first_sentence(text)
    listed = _flag(entry, "section_contains_table_or_list")
    subsections = _list(entry, "section_subsection_index")
    if not all(map(is_whole, subsections)):
        raise BadRecordError("bad_field", f"section_subsection_index: expected numbers, found {subsections!r}")
    return Section(
        index=_index(entry, place),
        title=words(_text(entry, "section_title")),
        depth=_whole(entry, "section_depth"),
        parent=parent,
        text=text,
        first_sentence=first,
        rest=rest,
        raw_first_sentence=_text(entry, "section_raw_1st_sentence") or first,
        images=images,
        heading_level=_whole(entry, "section_heading_level"),
        subsections=tuple(subsections),
        contains_table_or_list=bool(_LIST_LINE.search(text)) if listed is None else listed,
        contains_images=_flag(entry, "section_contains_images"),
        is_sample=_flag(entry, "is_section_summarization_sample"),
    )


def _image(entry: Any, number: int) -> SectionImage:
    if not isinstance(entry, dict):
        raise BadRecordError("bad_field", f"expected an object, found {entry!r}")
    url = _text(entry, "section_image_url")
    file = _text(entry, "file") or url.rstrip("/").rsplit("/", 1)[-1]
    if not file.strip():
        raise BadRecordError("no_file", "file or section_image_url: expected a name or an address, found none")
    return SectionImage(
        image_index=number,
        file=file,
        url=url or None,
        caption=words(_text(entry, "caption") or _text(entry, "section_image_captions")),
        alt_text=_text(entry, "section_image_alt_text"),
        attribution=_text(entry, "section_image_clean_attr_desc"),
        raw_attribution=_text(entry, "section_image_raw_attr_desc"),
        reference=_text(entry, "section_image_clean_ref_desc"),
        raw_reference=_text(entry, "section_image_raw_ref_desc"),
        mime_type=_text(entry, "section_image_mime_type") or None,
        width_px=_whole(entry, "section_image_width"),
        height_px=_whole(entry, "section_image_height"),
        in_wit=_flag(entry, "section_image_in_wit"),
        is_caption_sample=_flag(entry, "is_image_caption_sample"),
    )


def _index(entry: Mapping[str, Any], place: int) -> int:
    index = _whole(entry, "section_index")
    return place if index is None else index


def _text(record: Mapping[str, Any], name: str) -> str:
    if (found := record.get(name)) is None:
        return ""
    if not isinstance(found, str):
        raise BadRecordError("bad_field", f"{name}: expected a text, found {found!r}")
    return found


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    if (found := record.get(name)) is None or is_whole(found):
        return found
    raise BadRecordError("bad_field", f"{name}: expected a whole number, found {found!r}")


def _flag(record: Mapping[str, Any], name: str) -> bool | None:
    if (found := record.get(name)) in (None, 0, 1):  # true and false are 1 and 0
        return None if found is None else bool(found)
    raise BadRecordError("bad_field", f"{name}: expected 0 or 1, found {found!r}")


def _list(record: Mapping[str, Any], name: str) -> list[Any]:
    found = record.get(name)
    if found is not None and not isinstance(found, list):
        raise BadRecordError("bad_field", f"{name}: expected a list, found a {type(found).__name__}")
    return found or []
