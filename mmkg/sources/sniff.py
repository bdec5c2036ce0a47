"""Seeing by its content in which RDF syntax a dump is, whatever its name says.

A ``.ttl`` that is really N-Triples is read as lines, a ``.nt`` that is really RDF/XML as a document.
"""

import re
from collections.abc import Callable

import pyoxigraph as ox

from mmkg.sources.base import DocumentForm, Form, LineForm, LineRejected
from mmkg.sources.blocks import BOM
from mmkg.sources.lines_ntriples import parse_ntriples
from mmkg.sources.lines_turtle import is_prefix_line, parse_turtle_lines, prefix_lines
from mmkg.sources.statements import parse_statement, parse_turtle_line, scoped_names

SNIFF_BYTES = 64 * 1024
_SAMPLE_LINES = 20
_NAMES = scoped_names("m00000000")

NTRIPLES = LineForm(name="N-Triples", parse=parse_ntriples, compiled=True)
TURTLE_LINES = LineForm(name="Turtle, a statement a line", parse=parse_turtle_lines, has_prefixes=True)
TURTLE = DocumentForm(name="Turtle", syntax="turtle")
RDF_XML = DocumentForm(name="RDF/XML", syntax="rdf_xml")
N_QUADS = DocumentForm(name="N-Quads", syntax="n_quads")

_XML = re.compile(rb"\s*<(\?xml|rdf:RDF|!DOCTYPE rdf|!--)", re.IGNORECASE)
_FOREIGN = (
    (re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*[{\[]\s*[\"{\[]"), "JSON"),
    (re.compile(rb"%PDF"), "a PDF"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"), "a picture"),
    (re.compile(rb"\xff\xfe|\xfe\xff"), "text in UTF-16"),
    (re.compile(rb"\xfd7zXZ"), "an xz file"),
    (re.compile(rb"\x7fELF"), "a program"),
)


def sample_lines(head: bytes, count: int = _SAMPLE_LINES) -> list[bytes]:
    """The first statement lines of a dump's beginning: no comments, no blank ones, the last cut one left out."""
    lines = head.split(b"\n")
    if len(head) >= SNIFF_BYTES and len(lines) > 1:
        lines.pop()
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith(b"#")][:count]


def foreign_content(head: bytes) -> str | None:
    """What a file is that is no dump at all, in words; None if nothing speaks against it."""
    for pattern, words in _FOREIGN:
        if pattern.match(head):
            return words
    start = head[:1024]
    if start.count(0) > len(start) // 20:
        return "a binary file"
    return None


def choose_rdf_form(head: bytes, base_iri: str) -> Form:  # noqa: ARG001 - RDF syntaxes bring their own base
    """Choose the syntax of an RDF dump by its first lines."""
    if _XML.match(head):
        return RDF_XML
    sample = sample_lines(head)
    if any(is_prefix_line(line) for line in sample):
        return _choose_turtle(head)
    if sample and _share(sample, _is_quad) == 1 and _share(sample, _is_ntriples) < 1:
        return N_QUADS  # every triple is a quad too, so one that is no triple tells
    if not sample or _share(sample, _is_ntriples) >= 0.5:
        return NTRIPLES
    if _is_turtle(head):
        return TURTLE
    return NTRIPLES


def _share(lines: list[bytes], test: Callable[[bytes], bool]) -> float:
    return sum(map(test, lines)) / len(lines)


def _is_ntriples(line: bytes) -> bool:
    try:
        parse_statement(line.decode("utf-8", errors="replace"), _NAMES)
    except LineRejected:
        return False
    return True


def _is_quad(line: bytes) -> bool:
    try:
        return len(list(ox.parse(line, format=ox.RdfFormat.N_QUADS))) == 1
    except SyntaxError:
        return False


def _choose_turtle(head: bytes) -> Form:
    """Line form only if each of the first statements stands on a line of its own, in columns."""
    lines = [line for line in sample_lines(head, 10_000) if not is_prefix_line(line)][:_SAMPLE_LINES]
    if not lines or not all(line.endswith(b".") and line.count(b"\t") >= 2 for line in lines):
        return TURTLE
    prefixes = prefix_lines(head)
    good = 0
    for line in lines:
        try:
            parse_turtle_line(line.decode("utf-8", errors="replace"), prefixes, _NAMES)
            good += 1
        except LineRejected as error:
            if error.reason == "several_statements":
                return TURTLE
    return TURTLE_LINES if 2 * good >= len(lines) else TURTLE


def _is_turtle(head: bytes) -> bool:
    """Whether the beginning of a dump is Turtle; where it is cut, only its last line may be at fault."""
    found = False
    try:
        for _ in ox.parse(head, format=ox.RdfFormat.TURTLE):
            found = True
    except SyntaxError as error:
        return found and len(head) >= SNIFF_BYTES - len(BOM) and (error.lineno or 0) >= head.count(b"\n")
    return found
