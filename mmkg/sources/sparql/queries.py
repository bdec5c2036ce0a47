"""The SPARQL of a pull: count, group, sample and fetch a range. No OFFSET, no ORDER BY.

Before the way of a fact begins. Tried on Jena 5.2, Virtuoso 7.2.5 and Oxigraph; each form is the one that all accept:
keys are made outside of DISTINCT, for Virtuoso cannot sort rows with long strings (SR319).
"""

import re

from mmkg.sources.sparql.ranges import KEY_CHARS, Dimension, KeyRange, dimensions_of
from mmkg.sources.sparql.selection import Selection

COUNT, BLANK, FIRST, LAST, GROUP, KEY = "mmkg_n", "mmkg_blank", "mmkg_first", "mmkg_last", "mmkg_group", "mmkg_key"
NAMES = ("mmkg_subject_name", "mmkg_predicate_name", "mmkg_object_name")
"""Columns with the endpoint's own names of blank nodes."""
SAMPLE_KEYS = 200

_ESCAPED = re.compile(r'[\x00-\x1f"\\\x7f]')

ORDER_QUERY = (
    'SELECT (IF("Z" < "a", "yes", "no") AS ?capitals) (IF("z" < "\\u00E9", "yes", "no") AS ?accents) '
    '(IF("a-" < "aB", "yes", "no") AS ?signs) WHERE {}'
)
"""Whether strings are compared by code, as SPARQL asks for, or by the rules of a language: "yes" three times."""


def spell_string(text: str) -> str:
    r"""A string in a query; bounds are ASCII.

    >>> print(spell_string('a"b'), spell_string("http://a/\x7f"))
    "a\u0022b" "http://a/\u007F"
    """
    return '"' + _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04X}", text) + '"'


def key_of(dimension: Dimension, *, may_lack_text: bool) -> str:
    """The expression of a dimension; where STR may fail (blank nodes on some servers) it falls back to ""."""
    text = f"STR({dimension.variable})"
    if dimension.kind == "kind":
        variable = dimension.variable
        kind = f'IF(isLiteral({variable}), CONCAT(LANG({variable}), "^", STR(DATATYPE({variable}))), "")'
        return f'COALESCE({kind}, "")'
    if dimension.kind == "hash":
        text = f"MD5({text})"
    return f'COALESCE({text}, "")' if may_lack_text else text


class Queries:
    """The queries about the ranges of one selection.

    Args:
        selection: what is pulled.
        may_lack_text: STR of a subject or object may fail; costs the server a little.
    """

    def __init__(self, selection: Selection, *, may_lack_text: bool) -> None:
        self.selection = selection
        self._keys = [key_of(one, may_lack_text=may_lack_text) for one in dimensions_of(selection)]
        self._blank = " || ".join(f"isBlank({variable})" for variable in selection.variables)

    def _where(self, piece: KeyRange) -> str:
        bounds = []
        for key, (low, high) in zip(self._keys, piece.intervals, strict=False):
            if low is not None:
                bounds.append(f"{key} >= {spell_string(low)}")
            if high is not None:
                bounds.append(f"{key} < {spell_string(high)}")
        chosen = f"FILTER({' && '.join(bounds)})" if bounds else ""
        return f"WHERE {{ {self.selection.pattern} {chosen} }}"

    def _query(self, columns: str, where: str) -> str:
        selection = self.selection
        return f"{selection.prologue}\nSELECT {columns} {selection.dataset} {where}".strip()

    def _statements(self, piece: KeyRange) -> str:
        return f"WHERE {{ {{ SELECT DISTINCT {' '.join(self.selection.variables)} {self._where(piece)} }} }}"

    def _extent(self, piece: KeyRange) -> str:
        key = f"SUBSTR({self._keys[len(piece.intervals) - 1]}, 1, {KEY_CHARS})"
        return f"(COUNT(*) AS ?{COUNT}) (MIN({key}) AS ?{FIRST}) (MAX({key}) AS ?{LAST})"

    def count(self, piece: KeyRange) -> str:
        """How many statements, how many of them with blank nodes, and the first and last key."""
        columns = f"{self._extent(piece)} (SUM(IF({self._blank}, 1, 0)) AS ?{BLANK})"
        return self._query(columns, self._statements(piece))

    def groups(self, piece: KeyRange, prefix_chars: int) -> str:
        """The same for each beginning of keys of so many characters."""
        key = f"SUBSTR({self._keys[len(piece.intervals) - 1]}, 1, {prefix_chars})"
        columns = f"?{GROUP} {self._extent(piece)}"
        return f"{self._query(columns, self._statements(piece))} GROUP BY ({key} AS ?{GROUP})"

    def sample(self, piece: KeyRange) -> str:
        """Some keys, whichever the server finds first."""
        key = f"SUBSTR({self._keys[len(piece.intervals) - 1]}, 1, {KEY_CHARS})"
        return f"{self._query(f'DISTINCT ({key} AS ?{KEY})', self._where(piece))} LIMIT {SAMPLE_KEYS}"

    def page(self, piece: KeyRange, *, with_names: bool) -> str:
        """The statements; `with_names` also what the endpoint calls blank nodes in every answer."""
        columns = ["DISTINCT", *self.selection.variables]
        if with_names:
            for place, name in zip(self.selection.places, NAMES, strict=True):
                if place:
                    columns.append(f'(IF(isBlank({place}), STR({place}), "") AS ?{name})')
        return self._query(" ".join(columns), self._where(piece))
