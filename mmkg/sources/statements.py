"""One line at a time through pyoxigraph: strict, then once more with the IRIs' forbidden characters percent-encoded.

The slow way beside ``tokenizer.py``, taken by the few lines that it leaves alone, and by the lines of Turtle.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import pyoxigraph as ox

from mmkg.sources.base import MAX_IRI_BYTES, LineRejected, scoped_label
from mmkg.sources.rows import Literal, Statement, Term
from mmkg.terms import RDF, XSD_STRING, percent_encode

RDF_REIFIES = RDF + "reifies"

_NODE = r"(?:<[^>]*>|_:[^\s<]+)"
_LITERAL = r'"(?:[^"\\]|\\.)*"'
_LINE = re.compile(
    rf"\s*(?P<head>{_NODE})\s*(?P<relation><[^>]*>)\s*"
    rf"(?P<tail>{_NODE}|{_LITERAL}\s*(?:@(?P<language>\S+?)|\^\^\s*<[^>]*>)?)\s*(?P<end>\.\s*(?:#.*)?)"
)
_IRI_OR_LITERAL = re.compile(rf"{_LITERAL}|<(?P<iri>[^>]*)>")
_LANGUAGE = re.compile(r"[A-Za-z]+(?:-[A-Za-z0-9]+)*")  # LANGTAG of the N-Triples grammar, wider than BCP 47
_UNICODE_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Beyond what N-Triples forbids: RFC 3987 has no place for these either, and pyoxigraph refuses them.
_NOT_IN_RFC_3987 = re.compile(
    "[\\[\\]\x7f-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufff0-\uffff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
    "|[" + "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(1, 15)) + "]"
)
_PLAIN_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~/()*,;=:@!$&'+-]*")
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

NameBlank = Callable[[str], str]
"""From a blank node label as the parser has it to ``_:label`` as the tables have it."""

_ANONYMOUS = re.compile(r"[a-f][0-9a-f]{20,31}")  # the parser's random labels: 128 bits, not padded
_LABEL_LIKE_ANONYMOUS = re.compile(rb"_:([a-f][0-9a-f]{20,31})")

_REASONS = (
    (re.compile(r"No scheme found|relative IRI"), "relative_iri"),
    (re.compile(r"Unexpected end|Line jumps|followed by a dot|dot is expected"), "unterminated"),
    (re.compile(r"escape"), "bad_escape"),
    (re.compile(r"subtag|language"), "bad_language"),
    (re.compile(r"Only a single triple"), "several_statements"),
    (re.compile(r"Invalid (?:IRI|character|port)|authority"), "invalid_iri"),
)


def scoped_names(scope: str) -> NameBlank:
    """Names for syntaxes in which every blank node has a label."""
    return lambda label: scoped_label(scope, label)


class AnonymousNames:
    """Names for Turtle and RDF/XML, where ``[ ]`` is given a random label by the parser: numbered as they occur.

    Args:
        scope: of the dump.
        stem: stands before the number; must differ between blocks of one dump.
        text: a block; labels that stand in it are its own, however random they look, and may return in other blocks.
    """

    def __init__(self, scope: str, stem: str = "", text: bytes = b"") -> None:
        self._scope, self._stem = scope, stem
        self._own = {label.decode() for label in _LABEL_LIKE_ANONYMOUS.findall(text)}
        self._numbers: dict[str, int] = {}

    def __call__(self, label: str) -> str:
        """Name one blank node."""
        if label in self._own or not _ANONYMOUS.fullmatch(label):
            return scoped_label(self._scope, label)
        return f"_:{self._scope}y{self._stem}{self._numbers.setdefault(label, len(self._numbers))}"


def repair_iri(iri: str) -> str:
    r"""Percent-encode what no IRI may hold; an IRI that is valid is not changed.

    What percent-encoding cannot mend (no scheme, a port that is no number) stays, and the parser refuses it.

    >>> repair_iri("http://a/x y%zz#b#c")
    'http://a/x%20y%25zz#b%23c'
    """
    if _PLAIN_IRI.fullmatch(iri) or _is_valid(iri):
        return iri
    iri = percent_encode(_UNICODE_ESCAPE.sub(_unescape, iri))
    iri = _LONE_PERCENT.sub("%25", iri)
    start = match.end() if (match := _AUTHORITY.match(iri)) else 0
    rest = _NOT_IN_RFC_3987.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), iri[start:])
    before, mark, fragment = rest.partition("#")
    return iri[:start] + before + mark + fragment.replace("#", "%23")


def _is_valid(iri: str) -> bool:
    try:
        ox.NamedNode(iri)
    except ValueError:
        return False
    return True


def _unescape(match: re.Match[str]) -> str:
    code = int(match[1] or match[2], 16)
    return match[0] if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)


def parse_statement(line: str, name_blank: NameBlank, *, repair: bool = True) -> Statement:
    """Read one line of N-Triples.

    Args:
        line: without its line break, neither empty nor a comment.
        name_blank: names the dump's blank nodes.
        repair: percent-encode IRIs where the line is refused without.

    Raises:
        LineRejected: it is no triple.
    """
    if line.lstrip().startswith("<<"):
        return parse_turtle_line(line, b"", name_blank)
    try:
        return only_statement(ox.parse(line, format=ox.RdfFormat.N_TRIPLES), name_blank)
    except SyntaxError as error:
        if repair and (statement := _parse_repaired(line, name_blank)) is not None:
            return statement
        raise rejection(error) from error


def _parse_repaired(line: str, name_blank: NameBlank) -> Statement | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    spelled = f"{_repair_all(match['head'])} {_repair_all(match['relation'])} {_repair_all(match['tail'])} ."
    language = match["language"]
    if language is not None and _LANGUAGE.fullmatch(language):
        # a tag that the grammar allows and BCP 47 does not (@e, @abcdefghij) is kept as it stands
        spelled = spelled.removesuffix(f"@{language} .") + "@en ."
    try:
        statement = only_statement(ox.parse(spelled, format=ox.RdfFormat.N_TRIPLES), name_blank)
    except SyntaxError:
        return None
    tail = statement.tail
    if isinstance(tail, Literal) and tail.language is not None and language is not None:
        tail = Literal(tail.value, None, language.lower())
    repaired = any(
        repair_iri(iri["iri"]) != _UNICODE_ESCAPE.sub(_unescape, iri["iri"])
        for iri in _IRI_OR_LITERAL.finditer(line[: match.start("end")])
        if iri["iri"] is not None
    )
    return Statement(statement.head, statement.relation, tail, repaired=repaired)


def _repair_all(text: str) -> str:
    """Repair the IRIs of a term, but not what looks like one inside a literal."""
    return _IRI_OR_LITERAL.sub(
        lambda match: match[0] if match["iri"] is None else f"<{repair_iri(match['iri'])}>", text
    )


def only_statement(quads: Iterable[ox.Quad], name_blank: NameBlank) -> Statement:
    """The one statement of a parse.

    Raises:
        LineRejected: there is none, or more than one, or one with a quoted triple.
        SyntaxError: from the parser.
    """
    found = list(quads)
    if len(found) != 1:
        raise LineRejected("several_statements" if found else "syntax", f"{len(found)} statements on the line")
    return Statement(*triple_of(found[0], name_blank))


def parse_turtle_line(line: str, prefixes: bytes, name_blank: NameBlank) -> Statement:
    """Read one statement of Turtle that stands on a line, or a statement about a quoted one (RDF-star).

    Args:
        line: without its line break, neither empty nor a comment.
        prefixes: the prefix lines that apply.
        name_blank: names the dump's blank nodes.

    Raises:
        LineRejected: it is not one statement.
    """
    try:
        quads = list(ox.parse(prefixes + line.encode(), format=ox.RdfFormat.TURTLE))
    except SyntaxError as error:
        raise rejection(error) from error
    statements = list(group_quoted(quads, name_blank))
    if len(statements) != 1:
        raise LineRejected(
            "several_statements" if statements else "syntax", f"{len(statements)} statements on the line"
        )
    return statements[0]


def group_quoted(quads: Iterable[ox.Quad | ox.Triple], name_blank: NameBlank) -> Iterator[Statement]:
    """Turn what the parser makes of ``<< s p o >> q v`` (a reifier and statements about it) into statements.

    Raises:
        LineRejected: a quoted triple stands elsewhere, or is quoted in a quoted one.
    """
    reified: dict[ox.BlankNode | ox.NamedNode | ox.Triple, tuple[str, str, Term]] = {}
    for quad in quads:
        if isinstance(quad.object, ox.Triple) and quad.predicate.value == RDF_REIFIES:
            reified[quad.subject] = triple_of(quad.object, name_blank)
        elif quad.subject in reified:
            head, relation, tail = reified[quad.subject]
            about = (checked_iri(quad.predicate.value), term_of(quad.object, name_blank))
            yield Statement(head, relation, tail, qualifiers=(about,), asserted=False)
        else:
            yield Statement(*triple_of(quad, name_blank))


def triple_of(quad: ox.Quad | ox.Triple, name_blank: NameBlank) -> tuple[str, str, Term]:
    """Head, relation and tail of a statement of the parser.

    Raises:
        LineRejected: one of them is a quoted triple or a long IRI.
    """
    head = term_of(quad.subject, name_blank)
    if isinstance(head, Literal):
        raise LineRejected("syntax", "a literal stands in subject position")
    return head, checked_iri(quad.predicate.value), term_of(quad.object, name_blank)


def term_of(term: ox.NamedNode | ox.BlankNode | ox.Literal | ox.Triple, name_blank: NameBlank) -> Term:
    """A term of the parser as it stands in the tables.

    Raises:
        LineRejected: it is a quoted triple or a long IRI.
    """
    if isinstance(term, ox.NamedNode):
        return checked_iri(term.value)
    if isinstance(term, ox.BlankNode):
        return name_blank(term.value)
    if isinstance(term, ox.Literal):
        if term.language is not None:
            direction = "" if term.direction is None else f"--{term.direction}"
            return Literal(term.value, None, term.language.lower() + direction)
        datatype = term.datatype.value
        return Literal(term.value, None if datatype == XSD_STRING else datatype)
    raise LineRejected("quoted_triple", "a quoted triple stands where the tables have no place for it")


def checked_iri(iri: str) -> str:
    """The same IRI.

    Raises:
        LineRejected: it is longer than `MAX_IRI_BYTES`.
    """
    if len(iri) * 4 > MAX_IRI_BYTES and (size := len(iri.encode())) > MAX_IRI_BYTES:
        raise LineRejected("long_iri", f"{iri[:80]!r}… has {size:,} bytes, expected at most {MAX_IRI_BYTES:,}")
    return iri


def rejection(error: SyntaxError) -> LineRejected:
    """What the parser says of a line, with our reason for it."""
    words = re.sub(r" \(line \d+\)$", "", str(error))
    reason = next((reason for pattern, reason in _REASONS if pattern.search(words)), "syntax")
    return LineRejected(reason, words)
