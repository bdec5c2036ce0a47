"""RDF terms as strings: the vocabulary we know by name, N-Triples spelling, IRI repair, and dates with a precision."""

import datetime
import re
from dataclasses import dataclass

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
OWL = "http://www.w3.org/2002/07/owl#"
XSD = "http://www.w3.org/2001/XMLSchema#"
SKOS = "http://www.w3.org/2004/02/skos/core#"
SCHEMA_ORG = "http://schema.org/"
FOAF = "http://xmlns.com/foaf/0.1/"
FREEBASE = "http://rdf.freebase.com/ns/"
DBPEDIA = "http://dbpedia.org/resource/"
DBPEDIA_ONTOLOGY = "http://dbpedia.org/ontology/"
YAGO = "http://yago-knowledge.org/resource/"

RDF_TYPE = RDF + "type"
RDFS_LABEL = RDFS + "label"
OWL_SAME_AS = OWL + "sameAs"
XSD_STRING = XSD + "string"

# Predicates that say what a thing is called, is, and is described by; in this order where a thing has several.
LABEL_PREDICATES = (RDFS_LABEL, SKOS + "prefLabel", FREEBASE + "type.object.name", SCHEMA_ORG + "name", FOAF + "name")
DESCRIPTION_PREDICATES = (
    DBPEDIA_ONTOLOGY + "abstract",
    RDFS + "comment",
    SCHEMA_ORG + "description",
    FREEBASE + "common.topic.description",
)
TYPE_PREDICATES = (RDF_TYPE, FREEBASE + "type.object.type")

# N-Triples 1.1 forbids these in an IRI even percent-free: controls, space, <>"{}|^` and the backslash.
_FORBIDDEN_IN_IRI = re.compile(r'[\x00-\x20<>"{}|\\^`]')
_LITERAL_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
_ESCAPE_IN_LITERAL = re.compile(r'[\\"\n\r]')


def percent_encode(iri: str) -> str:
    """Replace every character that N-Triples forbids in an IRI by its percent code (UTF-8 bytes); twice is as once.

    >>> percent_encode('http://dbpedia.org/resource/"Heroes"')
    'http://dbpedia.org/resource/%22Heroes%22'
    """
    return _FORBIDDEN_IN_IRI.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), iri)


def spell_node(node: str) -> str:
    """N-Triples spelling of an IRI, or of a blank node given as ``_:label``."""
    return node if node.startswith("_:") else f"<{node}>"


def spell_literal(value: str, datatype: str | None = None, language: str | None = None) -> str:
    r"""N-Triples spelling of a literal.

    >>> spell_literal('say "hi"', language="en")
    '"say \\"hi\\""@en'
    """
    quoted = '"' + _ESCAPE_IN_LITERAL.sub(lambda match: _LITERAL_ESCAPES[match[0]], value) + '"'
    if language is not None:
        return f"{quoted}@{language}"
    return f"{quoted}^^<{datatype}>" if datatype is not None else quoted


@dataclass(frozen=True)
class DateWithPrecision:
    """A date of which only the year, or year and month, may be known; what is open is set to its first day."""

    date: datetime.date
    precision: str  # year | month | day


# ISO and YAGO's 2012-##-##; xsd:gYearMonth; xsd:gYear; the numbers of MMKB's YAGO (1917.0426; 1861.0000 is a year).
_ZONE = r"(?:Z|[+-]\d{2}:\d{2})?"
_DATE_FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        # ISO date or time, YAGO's 2012-##-##
        rf"(?P<year>\d{{4}})-(?P<month>\d{{2}}|##)-(?P<day>\d{{2}}|##)(?:T\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?)?{_ZONE}",
        rf"(?P<year>\d{{4}})-(?P<month>\d{{2}}){_ZONE}",  # xsd:gYearMonth
        rf"(?P<year>\d{{4}}){_ZONE}",  # xsd:gYear
        r"(?P<year>\d{4})\.(?P<month>\d{2})(?P<day>\d{2})",  # MMKB's YAGO numbers: 1917.0426; 1861.0000 is a year
    )
)


def parse_date(text: str) -> DateWithPrecision | None:
    """Read one of the date forms of the sources; None where it is none, or lies outside the years 1 to 9999.

    A month or day of 00 or ## is open. Any number of four digits reads as a year: ask only where a date is meant.

    >>> parse_date("1917.0426")
    DateWithPrecision(date=datetime.date(1917, 4, 26), precision='day')
    >>> parse_date("1861.0000")
    DateWithPrecision(date=datetime.date(1861, 1, 1), precision='year')
    >>> parse_date("2012-##-##")
    DateWithPrecision(date=datetime.date(2012, 1, 1), precision='year')
    """
    for form in _DATE_FORMS:
        if match := form.fullmatch(text):
            break
    else:
        return None
    groups = match.groupdict()
    year = int(groups["year"])
    month = 0 if groups.get("month") in (None, "##") else int(groups["month"])
    day = 0 if groups.get("day") in (None, "##") else int(groups["day"])
    if day and not month:
        return None
    try:
        date = datetime.date(year, month or 1, day or 1)
    except ValueError:
        return None
    return DateWithPrecision(date, "day" if day else "month" if month else "year")
