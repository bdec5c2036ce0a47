"""Literals: every value, datatype and language as it stands, and beside it the number or date that it spells.

Where a fact stands here: ``Denmark population "5932654"^^xsd:integer`` becomes a row of ``literals``; the same value
from two sources is one row with two bits in `sources`. Nothing is converted: `number` and `date` are readings.

- `number`: the form is a numeral (``42``, ``-3.5e6``), it has no language, and its datatype is not one of dates or of
  truth values. Without a datatype a numeral that begins with a superfluous zero (``02139``) is a code, not a number.
- `date`: the datatype is one of dates, or there is none and the form is ``YYYY-MM-DD`` (``##`` for what is open, as
  YAGO has it). The year may be negative; we follow XSD 1.1, where ``-0043`` is 44 BCE. Days are those of the proleptic
  Gregorian calendar. What is no day (``2011-02-30``) has no date.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmkg.graph.names import RESERVED_ATTRIBUTE_NAMES, unique_names
from mmkg.graph.workspace import Workspace, unite
from mmkg.shards import TableWriter
from mmkg.terms import XSD

DATE_DATATYPES = tuple(XSD + name for name in ("date", "dateTime", "dateTimeStamp", "gYear", "gYearMonth"))
_NOT_NUMBERS = (*DATE_DATATYPES, *(XSD + name for name in ("boolean", "time", "gDay", "gMonth", "gMonthDay")))

_NUMERAL = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,5})?$"
_CODE = r"^[+-]?0[0-9]"
_PLAIN_DAY = r"^-?[0-9]{4,6}-([0-9]{2}|##)-([0-9]{2}|##)$"
_DATE = (
    r"^(?P<year>-?[0-9]{4,6})"
    r"(?:-(?P<month>[0-9]{2}|##)(?:-(?P<day>[0-9]{2}|##)(?:T.*)?)?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})?$"
)
_PRECISIONS = ("year", "month", "day")
_DAYS_IN_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def parse_number(text: pa.Array, datatype: pa.Array, language: pa.Array) -> pa.Array:
    """The number that literals spell, as float64; null where they spell none or one beyond all bounds."""
    typed = pc.and_(pc.is_valid(datatype), pc.invert(pc.is_in(datatype, pa.array(_NOT_NUMBERS))))
    plain = pc.and_(pc.is_null(datatype), pc.is_null(language))
    asked = pc.if_else(pc.or_(typed, plain), text, pa.scalar(None, pa.string()))
    numeral = pc.match_substring_regex(asked, _NUMERAL)
    code = pc.and_(plain, pc.match_substring_regex(asked, _CODE))
    numeral = pc.fill_null(pc.and_(numeral, pc.invert(code)), False)
    # Arrow reads no leading plus.
    value = pc.cast(pc.if_else(numeral, pc.utf8_ltrim(asked, "+"), pa.scalar(None, pa.string())), pa.float64())
    return pc.if_else(pc.is_finite(value), value, pa.scalar(None, pa.float64()))


def days_from_civil(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Days from 1970-01-01 of proleptic Gregorian dates (Hinnant, chrono-compatible low-level date algorithms)."""
    shifted = np.where(month <= 2, year - 1, year)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


def parse_date(text: pa.Array, datatype: pa.Array, language: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The date that literals spell, as date32, and its precision: year, month or day."""
    typed = pc.is_in(datatype, pa.array(DATE_DATATYPES))
    plain = pc.and_(pc.is_null(datatype), pc.is_null(language))
    asked = pc.or_(typed, pc.and_(plain, pc.fill_null(pc.match_substring_regex(text, _PLAIN_DAY), False)))
    places = np.flatnonzero(asked.to_numpy(zero_copy_only=False))
    found = pc.extract_regex(text.take(pa.array(places)), _DATE)
    matched = found.is_valid().to_numpy(zero_copy_only=False)
    places, found = places[matched], found.drop_null()
    year = pc.cast(pc.struct_field(found, "year"), pa.int64()).to_numpy(zero_copy_only=False)
    month, day = (_number_or_zero(pc.struct_field(found, part)) for part in ("month", "day"))
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last_day = _DAYS_IN_MONTH[np.minimum(month, 12)] + ((month == 2) & leap)
    open_month, open_day = month == 0, day == 0
    possible = np.where(open_month, open_day, (month >= 1) & (month <= 12))
    possible &= open_day | ((day >= 1) & (day <= last_day))
    precision = np.where(open_month, 0, np.where(open_day, 1, 2))
    days = days_from_civil(year, np.maximum(month, 1), np.maximum(day, 1))
    places, days, precision = places[possible], days[possible], precision[possible]
    date, known = np.zeros(len(text), np.int32), np.zeros(len(text), np.int32)
    nothing = np.ones(len(text), np.bool_)
    date[places], known[places], nothing[places] = days, precision, False
    names = pa.array(_PRECISIONS).take(pa.array(known, mask=nothing))
    return pa.array(date, mask=nothing).cast(pa.date32()), names


def _number_or_zero(digits: pa.Array) -> np.ndarray:
    known = pc.invert(pc.is_in(digits, pa.array(["", "##"])))
    return pc.cast(pc.if_else(known, digits, "0"), pa.int64()).to_numpy(zero_copy_only=False)


def index_attributes(workspace: Workspace, literals: Any, terms: Any) -> Any:
    """Number the relations of literals: key, term, attribute_index in order of term."""
    keys = literals.select(key="relation").distinct()
    named = keys.join(terms, "key").select("key", "term")
    return workspace.keep(
        "attributes_indexed", named.mutate(attribute_index=ibis.row_number().over(order_by=named["term"]))
    )


def distinct_literals(literals: Any, entity_of: Any, attributes: Any) -> Any:
    """Each literal of an entity once: indices, text, datatype, language, united sources, and `rows` it stands for."""
    heads = entity_of.select(head="key", entity_index="entity_index")
    named = attributes.select(relation="key", attribute_index="attribute_index")
    joined = literals.join(heads, "head").join(named, "relation")
    return joined.group_by("entity_index", "attribute_index", "text", "datatype", "language").agg(
        sources=unite(joined["sources"]), rows=joined.count()
    )


def in_order(distinct: Any) -> Any:
    """Distinct literals in the order of the table."""
    nullable = [ibis.asc(column, nulls_first=True) for column in ("datatype", "language")]
    return distinct.order_by("entity_index", "attribute_index", "text", *nullable)


@dataclass
class AttributeCounts:
    """What the stream of literals tells about attributes: values, entities, and whether all are numbers or dates."""

    values: np.ndarray
    entities: np.ndarray
    numbers: np.ndarray
    dates: np.ndarray
    rows: int = 0

    def value_types(self) -> list[str]:
        """The column to read for each attribute: a number or date only if every value is one."""
        number, date = self.numbers == self.values, self.dates == self.values
        return ["number" if n else "date" if d else "text" for n, d in zip(number, date, strict=True)]


def write_literals(workspace: Workspace, folder: Path, ordered: Any, num_attributes: int) -> AttributeCounts:
    """Write the table `literals` from :func:`in_order`, reading numbers and dates and counting on the way."""
    values, entities, numbers, dates = np.zeros((4, num_attributes), np.int64)
    counts = AttributeCounts(values, entities, numbers, dates)
    last = (-1, -1)
    with TableWriter(folder, "literals") as writer:
        for batch in workspace.stream(ordered):
            spelled = [batch[name].combine_chunks() for name in ("text", "datatype", "language")]
            number, (date, precision) = parse_number(*spelled), parse_date(*spelled)
            read = {"number": number, "date": date, "date_precision": precision}
            writer.write(pa.table({**dict(zip(batch.column_names, batch.columns, strict=True)), **read}))
            entity, attribute = batch["entity_index"].to_numpy(), batch["attribute_index"].to_numpy()
            first = np.ones(len(entity), np.bool_)
            first[1:] = (entity[1:] != entity[:-1]) | (attribute[1:] != attribute[:-1])
            first[0] = (entity[0], attribute[0]) != last
            last = (entity[-1], attribute[-1])
            for counted, mask in (
                (counts.values, slice(None)),
                (counts.entities, first),
                (counts.numbers, number.is_valid().to_numpy(zero_copy_only=False)),
                (counts.dates, date.is_valid().to_numpy(zero_copy_only=False)),
            ):
                counted += np.bincount(attribute[mask], minlength=num_attributes)
            counts.rows += int(batch["rows"].to_numpy().sum())
    return counts


def write_attributes(
    workspace: Workspace, folder: Path, attributes: Any, counts: AttributeCounts, labels: dict[str, str]
) -> int:
    """Write the table `attributes`; returns how many.

    Args:
        workspace: the engine.
        folder: of the build.
        attributes: from :func:`index_attributes`.
        counts: from :func:`write_literals`.
        labels: label by IRI, of the attributes that have one.
    """
    iris = workspace.fetch(attributes.order_by("attribute_index"))["term"].to_pylist()
    table = pa.table(
        {
            "attribute_index": np.arange(len(iris)),
            "attribute_id": pa.array(iris, pa.string()),
            "name": pa.array(unique_names(iris, RESERVED_ATTRIBUTE_NAMES), pa.string()),
            "label": pa.array([labels.get(iri) for iri in iris], pa.string()),
            "count": counts.values,
            "num_entities": counts.entities,
            "value_type": pa.array(counts.value_types(), pa.string()),
        }
    )
    with TableWriter(folder, "attributes") as writer:
        writer.write(table)
    return len(iris)
