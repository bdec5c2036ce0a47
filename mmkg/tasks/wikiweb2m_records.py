"""Files of WikiWeb2M as records: gzipped TFRecords and JSON lines, in one form, before anything of a page is believed.

See :mod:`mmkg.tasks.wikiweb2m` for what the records hold.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkg.errors import DumpError
from mmkg.tasks.tfrecord import Feature, RecordError, SequenceExample, parse_example, read_records

PAD: dict[str, Any] = {}
"""A place in the list of pictures of a section where there is none."""

_IMAGE_FIELDS = (
    "section_image_url", "section_image_captions", "section_image_mime_type", "section_image_width",
    "section_image_height", "section_image_in_wit", "section_image_alt_text", "section_image_raw_attr_desc",
    "section_image_clean_attr_desc", "section_image_raw_ref_desc", "section_image_clean_ref_desc",
    "is_image_caption_sample",
)  # fmt: skip
_SECTION_FIELDS = (
    "section_title", "section_index", "section_depth", "section_heading_level", "section_parent_index", "section_text",
    "section_clean_1st_sentence", "section_raw_1st_sentence", "section_rest_sentence",
    "is_section_summarization_sample", "section_contains_table_or_list", "section_contains_images",
)  # fmt: skip


class BadRecordError(Exception):
    """What is wrong with one record: a word for counting, and what was expected and found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_page_records(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRecordError]]:
    """Name and content of every record of a file in the form of a JSON line, or what is wrong with it.

    A file that is cut or damaged gives that as its last record. The lists of pictures keep their pads, as `PAD`.

    Raises:
        DumpError: it is missing or empty, or its name says neither TFRecord nor JSON lines.
    """
    if ".tfrecord" in path.name:
        return _tfrecords(path)
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        return _json_lines(path)
    raise DumpError(f"{path}: expected a name with .tfrecord, or one that ends in .jsonl or .jsonl.gz.")


def _tfrecords(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRecordError]]:
    records, number = read_records(path), 0
    while True:
        item = f"record {number}"
        try:
            data = next(records)
        except StopIteration:
            return
        except RecordError as error:  # the iterator is at its end with it
            yield item, BadRecordError(error.reason, str(error))
            return
        try:
            yield item, _record_of(parse_example(data))
        except RecordError as error:
            yield item, BadRecordError(error.reason, str(error))
        except BadRecordError as bad:
            yield item, bad
        number += 1


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRecordError]]:
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise DumpError(f"{path}: cannot be read: {error.strerror}.") from error
    if not head:
        raise DumpError(f"{path}: expected lines of JSON, found an empty file. Fetch it again.")
    number = 1
    with gzip.open(path, "rb") if head == b"\x1f\x8b" else path.open("rb") as lines:
        while True:
            try:
                line = lines.readline()
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                yield f"line {number}", BadRecordError("cut", f"{path}: the gzipped file is cut or damaged ({error})")
                return
            if not line:
                return
            if line.strip():
                yield f"line {number}", _parsed(line)
            number += 1


def _parsed(line: bytes) -> dict[str, Any] | BadRecordError:
    try:
        found = json.loads(line.decode(), object_pairs_hook=_unique)
    except BadRecordError as bad:
        return bad
    except UnicodeDecodeError as error:
        return BadRecordError("not_utf8", f"expected UTF-8, found {error.object[error.start : error.end]!r}")
    except (ValueError, RecursionError) as error:
        return BadRecordError("not_json", f"expected an object of JSON: {error}")
    if not isinstance(found, dict):
        return BadRecordError("not_a_record", f"expected an object, found a {type(found).__name__}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise BadRecordError("repeated_key", f"expected every key once, found {repeated!r} twice")
    return found


def _record_of(example: SequenceExample) -> dict[str, Any]:
    """An example in the form of a JSON line."""
    record: dict[str, Any] = {}
    for name, feature in example.context.items():
        if len(feature.values) > 1:
            raise BadRecordError("bad_field", f"{name}: expected one value, found {len(feature.values)}")
        record[name] = _plain(name, feature)[0] if feature.values else None
    lists = example.feature_lists
    count = len(_in_a_row("section_title", lists.get("section_title", ())))
    fields = {name: _in_a_row(name, lists[name]) for name in _SECTION_FIELDS if name in lists}
    grouped = {
        name: _by_section(name, lists.get(name, ()), count) for name in ("section_subsection_index", *_IMAGE_FIELDS)
    }
    for name, values in fields.items():
        if len(values) != count:
            raise BadRecordError("uneven_fields", f"{name}: expected {count} values like titles, found {len(values)}")
    record["sections"] = [
        {name: values[place] for name, values in fields.items()}
        | {"section_subsection_index": grouped["section_subsection_index"][place]}
        | {"section_images": _row_of_images({name: grouped[name][place] for name in _IMAGE_FIELDS})}
        for place in range(count)
    ]
    return record


def _row_of_images(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The pictures of a section; a place where no field says anything is a pad."""
    rows = (
        {name: values[place] for name, values in columns.items() if place < len(values)}
        for place in range(max(map(len, columns.values())))
    )
    return [row if any(row.values()) else PAD for row in rows]


def _in_a_row(name: str, features: Sequence[Feature]) -> list[Any]:
    """A value for each section, out of one feature with all of them or out of a feature for each."""
    if len(features) == 1:
        return _plain(name, features[0])
    if any(len(feature.values) > 1 for feature in features):
        raise BadRecordError("uneven_fields", f"{name}: expected one value for each section, found several")
    return [next(iter(_plain(name, feature)), None) for feature in features]


def _by_section(name: str, features: Sequence[Feature], count: int) -> list[list[Any]]:
    """The values of each section, out of a feature for each; none where nothing is said of any."""
    if not any(feature.values for feature in features):
        return [[] for _ in range(count)]
    if len(features) != count:
        raise BadRecordError("uneven_fields", f"{name}: expected a list for each of {count} sections, {len(features)}")
    return [_plain(name, feature) for feature in features]


def _plain(name: str, feature: Feature) -> list[Any]:
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in feature.values]
    except UnicodeDecodeError as error:
        raise BadRecordError("not_utf8", f"{name}: expected UTF-8, found another encoding") from error
