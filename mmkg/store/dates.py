"""Days as a store counts them, and what Python can hold of them: years 1 to 9999 as dates, all others as ISO text.

Freebase and DBpedia have many days before year 1 (`-0043-03-15` is 44 BC), which `datetime.date` cannot hold; an engine
that is asked for one as a Python object fails, or crashes. So days are read as numbers and come through here.
"""

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime.date(1970, 1, 1).toordinal()
_LAST = datetime.date.max.toordinal()


def date_value(days: int) -> datetime.date | str:
    """The date so many days after 1970-01-01, or its ISO text where Python's dates do not reach.

    >>> date_value(0), date_value(-800000)
    (datetime.date(1970, 1, 1), '-0221-09-04')
    """
    if 1 <= days + _EPOCH <= _LAST:
        return datetime.date.fromordinal(days + _EPOCH)
    year, month, day = str(np.datetime64(days, "D")).rsplit("-", 2)
    sign = "-" if year.startswith("-") else "+" if len(year) > 4 else ""
    return f"{sign}{year.removeprefix('-').zfill(4)}-{month}-{day}"


def date_values(column: pa.Array | pa.ChunkedArray) -> list[datetime.date | str | list[datetime.date | str] | None]:
    """Values of a column of dates, or of lists of dates."""
    is_list = pa.types.is_list(column.type)
    rows = column.cast(pa.list_(pa.int32()) if is_list else pa.int32()).to_pylist()
    if is_list:
        return [None if row is None else [date_value(days) for days in row] for row in rows]
    return [None if days is None else date_value(days) for days in rows]


def rows_with_dates(table: pa.Table) -> list[list[Any]]:
    """The rows of a table as Python values; dates, and lists of them, as `date_values` gives them."""
    columns = [
        date_values(column) if pa.date32() in (kind, getattr(kind, "value_type", None)) else column.to_pylist()
        for column, kind in zip(table.columns, table.schema.types, strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def dates_as_text(table: pa.Table) -> pa.Table:
    """The table with columns that hold a date out of Python's reach, however deep, with ISO text for dates."""
    for number, field in enumerate(table.schema):
        column = table.column(number)
        if any(_has_far_date(chunk) for chunk in column.chunks):
            table = table.set_column(number, field.name, column.cast(_text_for_dates(field.type)))
    return table


def _has_far_date(array: pa.Array) -> bool:
    if pa.types.is_date32(array.type):
        limits = pc.min_max(array.cast(pa.int32())).as_py()
        return limits["min"] is not None and not (1 - _EPOCH <= limits["min"] <= limits["max"] <= _LAST - _EPOCH)
    if pa.types.is_list(array.type):
        return _has_far_date(array.flatten())
    if pa.types.is_struct(array.type):
        return any(_has_far_date(child) for child in array.flatten())
    return False


def _text_for_dates(kind: pa.DataType) -> pa.DataType:
    """A type with text in place of dates."""
    if pa.types.is_list(kind):
        return pa.list_(_text_for_dates(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([(field.name, _text_for_dates(field.type)) for field in fields])
    return pa.string() if pa.types.is_date32(kind) else kind
