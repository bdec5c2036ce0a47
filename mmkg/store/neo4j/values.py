"""What Neo4j answers as Arrow columns: the types of the embedded store's answers, where it has them.

================  ====================================================================================================
integer, float    int64, double; a column with both is double
string, boolean   string, bool
date              date32, also before year 1
date and time     timestamp[us], in UTC where it has a zone; finer parts of a second are cut off
time              time64[us]; with a zone: its ISO text
duration          struct<months, days, seconds, nanoseconds>
point             struct<srid, x, y, z>
list              list
map               struct with every key that any row has
node              struct<_ID, _LABEL, properties…>
relationship      struct<_SRC, _DST, _LABEL, _ID, properties…>
path              struct<_NODES, _RELS>
anything mixed    string: text as it is, other values as JSON
================  ====================================================================================================

A column without any value has the type null: Neo4j does not say what it would have been.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import neo4j
import pyarrow as pa
from neo4j.graph import Node, Path, Relationship
from neo4j.spatial import Point
from neo4j.time import Date, DateTime, Duration, Time

from mmkg.store.columns import IMAGES
from mmkg.store.cypher import IMAGE_TABLE
from mmkg.store.model import ENTITY_PROPERTIES

_PRIMITIVES: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_EPOCH = Date(1970, 1, 1).to_ordinal()
_MICROSECONDS = 1_000_000


class _Day(int):
    """A date as days from 1970-01-01."""


class _Moment(int):
    """A time without zone as microseconds from 1970-01-01 00:00."""


class _ZonedMoment(int):
    """A time with zone as microseconds from 1970-01-01 00:00 UTC."""


class _Clock(int):
    """A time of day as microseconds from midnight."""


class _Fields(dict[str, Any]):
    """A map whose keys have an order; those of a map of the query's have none, and come sorted."""


_TIMES: dict[type, pa.DataType] = {
    _Day: pa.date32(),
    _Moment: pa.timestamp("us"),
    _ZonedMoment: pa.timestamp("us", "UTC"),
    _Clock: pa.time64("us"),
}


def to_table(names: Sequence[str], records: Sequence[neo4j.Record]) -> pa.Table:
    """Records as a table; columns are called `names`."""
    # past the record's own access, which raises for a date before year 1
    columns = [to_column([tuple.__getitem__(record, index) for record in records]) for index in range(len(names))]
    return pa.Table.from_arrays(columns, names=list(names))


def to_column(values: Sequence[Any]) -> pa.Array:
    """Values of a column as an array of the narrowest type that holds them all."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    if not kinds <= {*_PRIMITIVES, list, dict, _Fields, *_TIMES}:
        values = [_open(value) for value in values]
        kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) == 1:
        kind = next(iter(kinds))
        if kind in _PRIMITIVES:
            return pa.array(values, _PRIMITIVES[kind])
        if kind is bytes:
            return pa.array(values, pa.binary())
        if kind is list:
            return _lists(values)
        if kind in (dict, _Fields):
            return _structs(values, in_order=kind is _Fields)
        if kind is _Day:
            return pa.array(values, pa.int32()).cast(pa.date32())
        return pa.array(values, pa.int64()).cast(_TIMES[kind])
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([_as_text(value) for value in values], pa.string())


def _lists(values: Sequence[list[Any] | None]) -> pa.Array:
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value or ()))
    items = to_column([item for value in values for item in value or ()])
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, mask=missing)


def _structs(values: Sequence[dict[str, Any] | None], *, in_order: bool) -> pa.Array:
    found = dict.fromkeys(key for value in values for key in value or ())
    keys = list(found) if in_order else sorted(found)
    if not keys:
        return pa.array(values, pa.struct([]))
    missing = pa.array([value is None for value in values], pa.bool_())
    fields = [to_column([None if value is None else value.get(key) for value in values]) for key in keys]
    return pa.StructArray.from_arrays(fields, names=keys, mask=missing)


def _open(value: Any) -> Any:
    """One level of a value of the driver's as what columns are made of."""
    if type(value) in _OPENERS:
        return _OPENERS[type(value)](value)
    if isinstance(value, Relationship):  # of a class of its own for each type
        return _relationship(value)
    if hasattr(value, "raw_data"):  # what the driver could not read, such as a date before year 1
        return _open(value.raw_data)
    if hasattr(value, "tag"):
        return _structure(value.tag, value.fields)
    return value


def _node(node: Node) -> dict[str, Any]:
    return _node_of(node.element_id, node.labels, dict(node))


def _node_of(element_id: str, labels: Iterable[str], properties: dict[str, Any]) -> dict[str, Any]:
    order = IMAGES.names if IMAGE_TABLE in labels else ENTITY_PROPERTIES
    first = [name for name in order if name in properties]
    rest = sorted(properties.keys() - set(first))
    about = {"_ID": element_id, "_LABEL": ":".join(sorted(labels))}
    return _Fields(about | {name: properties[name] for name in (*first, *rest)})


def _relationship(relationship: Relationship) -> dict[str, Any]:
    ends = [None if node is None else node.element_id for node in relationship.nodes]
    return _relationship_of(relationship.element_id, ends, relationship.type, dict(relationship))


def _relationship_of(
    element_id: str, ends: Sequence[str | None], name: str, properties: dict[str, Any]
) -> dict[str, Any]:
    about = {"_SRC": ends[0], "_DST": ends[1], "_LABEL": name, "_ID": element_id}
    return _Fields(about | {key: properties[key] for key in sorted(properties)})


def _path(path: Path) -> dict[str, Any]:
    return _Fields({"_NODES": list(path.nodes), "_RELS": list(path.relationships)})


def _moment(moment: DateTime) -> Any:
    days = Date(moment.year, moment.month, moment.day).to_ordinal() - _EPOCH
    seconds = days * 86_400 + moment.hour * 3600 + moment.minute * 60 + moment.second
    offset = moment.utcoffset()
    microseconds = seconds * _MICROSECONDS + moment.nanosecond // 1000
    if offset is None:
        return _Moment(microseconds)
    return _ZonedMoment(microseconds - round(offset.total_seconds()) * _MICROSECONDS)


def _clock(clock: Time) -> Any:
    return _Clock(clock.ticks // 1000) if clock.tzinfo is None else clock.iso_format()


def _duration(duration: Duration) -> dict[str, int]:
    return _Fields(zip(("months", "days", "seconds", "nanoseconds"), duration, strict=True))


def _point(point: Point) -> dict[str, float | int | None]:
    return _Fields({"srid": point.srid, **dict(zip("xyz", point, strict=False))})


_OPENERS: dict[type, Any] = {
    Node: _node,
    Path: _path,
    Date: lambda date: _Day(date.to_ordinal() - _EPOCH),
    DateTime: _moment,
    Time: _clock,
    Duration: _duration,
    tuple: list,
    bytearray: bytes,
    **dict.fromkeys((Point, *Point.__subclasses__()), _point),
}


def _structure(tag: bytes, fields: Sequence[Any]) -> Any:
    """A value as it came over the wire (Bolt 5), for what the driver's own types cannot hold."""
    if tag == b"D":
        return _Day(fields[0])
    if tag == b"d":
        return _Moment(fields[0] * _MICROSECONDS + fields[1] // 1000)
    if tag in (b"I", b"i"):
        return _ZonedMoment(fields[0] * _MICROSECONDS + fields[1] // 1000)
    if tag == b"N":
        return _node_of(fields[3], _whole(fields[1]), _whole(fields[2]))
    if tag == b"R":
        return _relationship_of(fields[5], (fields[6], fields[7]), fields[3], _whole(fields[4]))
    if tag == b"P":
        return _wire_path([_open(node) for node in _whole(fields[0])], _whole(fields[1]), _whole(fields[2]))
    return f"value of an unknown type {tag!r}"


def _wire_path(nodes: list[Any], relationships: Sequence[Any], indices: Sequence[int]) -> dict[str, Any]:
    """A path: pairs of a relationship's number (from 1; negative: taken against its direction) and the next node's."""
    walked, found = [nodes[0]], []
    for number, node in zip(indices[::2], indices[1::2], strict=True):
        before, after = walked[-1], nodes[node]
        ends = (before["_ID"], after["_ID"]) if number > 0 else (after["_ID"], before["_ID"])
        relationship = relationships[abs(number) - 1]
        fields = getattr(getattr(relationship, "raw_data", relationship), "fields", None)
        if fields is None:
            name, element_id, properties = relationship.type, relationship.element_id, dict(relationship)
        else:
            name, properties, element_id = fields[1], _whole(fields[2]), fields[3]
        found.append(_relationship_of(element_id, ends, name, properties))
        walked.append(after)
    return _Fields({"_NODES": walked, "_RELS": found})


def _whole(value: Any) -> Any:
    """A list or map that the driver gave up because of something in it."""
    return getattr(value, "raw_data", value)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    plain = _as_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _as_json(value: Any) -> Any:
    """A value with all that is in it as JSON has it; times as ISO text."""
    value = _open(value)
    if type(value) in _TIMES:
        width = pa.int32() if isinstance(value, _Day) else pa.int64()
        return pa.array([value], width).cast(_TIMES[type(value)]).cast(pa.string())[0].as_py()
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value.hex() if isinstance(value, bytes) else value
