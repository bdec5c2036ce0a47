"""An own CONSTRUCT query becomes selections: one for each line of its template, over the same pattern.

Before the way of a fact begins. rdflib parses the query, for its errors and its template; a small scanner finds the
text of the pattern, which is sent to the endpoint as the user wrote it.
"""

import re
from dataclasses import dataclass
from typing import Any

from mmkg.errors import ConfigError
from mmkg.sources.sparql.selection import Selection, Term
from mmkg.terms import RDF, XSD_STRING

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n\r]*)|(?P<iri><[^<>"{}|^`\\\x00-\x20]*>)"""
    r'''|(?P<string>"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^'\\]|\\.|'(?!''))*\'\'\'|"(?:[^"\\\n]|\\.)*"'''
    r"""|'(?:[^'\\\n]|\\.)*')|(?P<open>\{)|(?P<close>\})|(?P<word>[?$:]?[A-Za-z_][\w.:-]*)""",
    re.DOTALL,
)
_MODIFIERS = frozenset({"LIMIT", "OFFSET"})


@dataclass(frozen=True)
class _Parts:
    prologue: str
    dataset: str
    pattern: str


def selections_of_construct(query: str) -> list[Selection]:
    """Make selections of an own CONSTRUCT query.

    Solutions in which a variable of the line is unbound, its subject a literal or its predicate no IRI are left out,
    as CONSTRUCT does it (SPARQL 1.1, section 16.2).

    Raises:
        ConfigError: the query does not parse, is no CONSTRUCT, has LIMIT, OFFSET or anything else behind its pattern,
            or its template has blank nodes or no variable in a line.
    """
    template = _template_of(query)
    parts = _cut(query)
    selections = []
    for number, triple in enumerate(dict.fromkeys(template), start=1):
        places, constants = zip(*(_place_of(node, number) for node in triple), strict=True)
        name = f"line {number} of the template"
        if not any(places):
            raise _refused(f"{name} has no variable", "name at least one")
        checks = [f"BOUND({place})" for place in dict.fromkeys(places) if place]
        if places[0]:
            checks.append(f"!isLiteral({places[0]})")
        if places[1]:
            checks.append(f"isIRI({places[1]})")
        selections.append(
            Selection(
                name=name,
                pattern=f"{{ {parts.pattern}\n}} FILTER({' && '.join(checks)})",
                places=places,
                constants=constants,
                prologue=parts.prologue,
                dataset=parts.dataset,
            )
        )
    return selections


def _refused(found: str, instead: str) -> ConfigError:
    return ConfigError(f"sparql: `query` cannot be pulled in pages: {found}; {instead}.")


def _template_of(query: str) -> list[tuple[Any, Any, Any]]:
    from pyparsing import ParseException
    from rdflib.plugins.sparql.algebra import translateQuery
    from rdflib.plugins.sparql.parser import parseQuery

    try:
        algebra = translateQuery(parseQuery(query)).algebra
    except ParseException as error:
        raise ConfigError(f"sparql: `query` is not SPARQL 1.1: {error}. Try it on the endpoint's own page.") from error
    except Exception as error:  # rdflib raises bare Exception, for an unknown prefix for instance
        raise ConfigError(f"sparql: `query` cannot be understood: {error}.") from error
    if algebra.name != "ConstructQuery":
        raise _refused("it is no CONSTRUCT query", "write CONSTRUCT { ?s ?p ?o } WHERE { … }")
    if not algebra.template:
        raise _refused("its template is missing or empty", "write CONSTRUCT { ?s ?p ?o } WHERE { … }")
    return [tuple(triple) for triple in algebra.template]


def _place_of(node: Any, number: int) -> tuple[str, Term | None]:
    """The variable of a place, or "" and the constant that stands there."""
    import rdflib

    if isinstance(node, rdflib.Variable):
        return f"?{node}", None
    if isinstance(node, rdflib.URIRef):
        return "", Term("iri", str(node))
    if isinstance(node, rdflib.Literal):
        language = node.language or ""
        datatype = "" if node.datatype is None or language else str(node.datatype)
        return "", Term(
            "literal", str(node), "" if datatype in {XSD_STRING, f"{RDF}langString"} else datatype, language
        )
    raise _refused(
        f"line {number} of its template has a blank node, which would be another one in each page",
        "make an IRI in the pattern: BIND(IRI(CONCAT(…)) AS ?node)",
    )


def _cut(query: str) -> _Parts:
    """Find prologue, FROM clauses and pattern in the text; strings, IRIs and comments are stepped over."""
    depth = 0
    construct = template_end = pattern_start = pattern_end = -1
    for token in _TOKEN.finditer(query):
        kind, text = token.lastgroup, token[0]
        if kind == "word" and text.upper() in _MODIFIERS:
            raise _refused(f"it has {text.upper()}", "a pull brings all statements; leave it out")
        if kind == "word" and construct < 0 and text.upper() == "CONSTRUCT":
            construct = token.start()
        elif kind == "open":
            if depth == 0 and template_end >= 0 and pattern_start < 0:
                pattern_start = token.end()
            depth += 1
        elif kind == "close":
            depth -= 1
            if depth == 0 and template_end < 0:
                template_end = token.end()
            elif depth == 0 and pattern_end < 0:
                pattern_end = token.start()
    behind = re.sub(r"#[^\n\r]*", "", query[pattern_end + 1 :]).strip()
    if behind:
        raise _refused(f"behind its pattern stands '{behind[:60]}'", "leave it out; a pull has an order of its own")
    between = _TOKEN.finditer(query, template_end, pattern_start - 1)
    words = [token[0] for token in between if token.lastgroup != "comment" and token[0].upper() != "WHERE"]
    dataset = " ".join(words)
    return _Parts(query[:construct].strip(), dataset, query[pattern_start:pattern_end].strip())
