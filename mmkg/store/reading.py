"""A user's Cypher before and after it meets the engine: refuse what is not reading, name columns, explain mistakes."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from mmkg.errors import QueryError

_TOKEN = re.compile(
    r"""(?P<comment>//[^\r\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
      | (?P<quoted>`(?:``|[^`])*`)
      | (?P<parameter>\$\w+)
      | (?P<word>[^\W\d]\w*)
      | (?P<number>\d[\w.]*)
      | (?P<space>\s+)
      | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
Dialect = Literal["embedded", "neo4j"]

_READING_CLAUSES = {"MATCH", "OPTIONAL", "RETURN", "WITH", "UNWIND", "CALL"}
# Procedures that only look. Other CALLs change settings, load extensions or read files; on Neo4j even in a session that
# may only read: there `CALL dbms.killConnection(…)` is no write.
_READING_CALLS: Mapping[Dialect, frozenset[str]] = {
    "embedded": frozenset(
        {"SHOW_TABLES", "TABLE_INFO", "SHOW_CONNECTION", "SHOW_FUNCTIONS", "SHOW_MACROS", "DB_VERSION"}
    ),
    "neo4j": frozenset(
        {
            "DB.LABELS",
            "DB.RELATIONSHIPTYPES",
            "DB.PROPERTYKEYS",
            "DB.SCHEMA.NODETYPEPROPERTIES",
            "DB.SCHEMA.RELTYPEPROPERTIES",
            "DB.SCHEMA.VISUALIZATION",
            "DB.INDEX.FULLTEXT.QUERYNODES",
            "DB.INDEX.FULLTEXT.QUERYRELATIONSHIPS",
            "DB.INDEX.VECTOR.QUERYNODES",
            "DB.INDEX.VECTOR.QUERYRELATIONSHIPS",
            "DB.INFO",
            "DB.PING",
            "DBMS.COMPONENTS",
        }
    ),
}
# Neo4j reads `\uXXXX` anywhere in a query before it looks at its words: `LO\u0041D CSV` reads files.
_ESCAPE = re.compile(r"\\(?:\\|u(?P<hex>[0-9a-fA-F]{4}))")
_AFTER_RETURN = {"ORDER", "SKIP", "LIMIT", "UNION"}
# How the engine names what it does not know.
_UNKNOWN = (
    re.compile(r"Cannot find property (?P<name>\S+) for "),
    re.compile(r"Table (?P<name>\S+) does not exist"),
    re.compile(r"Variable (?P<name>\S+) is not in scope"),
    re.compile(r"function (?P<name>\S+) does not exist"),
)
_PLACE = re.compile(r"\(line: (?P<line>\d+), offset: (?P<offset>\d+)\)")
_PLACE_NEO4J = re.compile(r"\s*\(line (?P<line>\d+), column (?P<column>\d+) \(offset: \d+\)\).*", re.DOTALL)
# Neo4j lists all words that could stand where a mistake is.
_EXPECTED_NEO4J = re.compile(r"^Invalid input '(?P<found>[^']*)': expected (?P<words>.*)$", re.DOTALL)
# The engine repeats the query up to the mistake, and lists all 90 words that could stand there.
_LONG_WORDS = re.compile(r"\s*expecting \{.{60,}\}$|Invalid input <.*>: expected rule oC_(?P<rule>\w+)$", re.DOTALL)


class Token(NamedTuple):
    """A piece of a query and where it begins."""

    kind: str  # string | quoted | parameter | word | number | sign
    text: str
    start: int


def tokens(cypher: str) -> Iterator[Token]:
    """The pieces of a query without space and comments."""
    for match in _TOKEN.finditer(cypher):
        kind = match.lastgroup or "sign"
        if kind not in ("space", "comment"):
            yield Token(kind, match[0], match.start())


def check_reading(cypher: str, parameters: Mapping[str, Any], dialect: Dialect = "embedded") -> None:
    """Refuse what is not one reading statement, or names a parameter that has no value.

    A database that is opened read-only still lets ``COPY … TO`` write files, ``LOAD FROM`` read them and ``CALL x = …``
    change settings, and takes a missing parameter for null; a Neo4j session that may only read still reads files
    (``LOAD CSV``), ends other people's connections (``CALL dbms.…``) and lists users (``SHOW``). These are looked for
    here; what writes to the graph, the engine refuses too.

    Raises:
        QueryError: saying which word, and where.
    """
    if dialect == "neo4j":
        cypher = _ESCAPE.sub(lambda match: chr(int(match["hex"], 16)) if match["hex"] else match[0], cypher)
    found = list(tokens(cypher))
    while found and found[-1].text == ";":
        found.pop()
    if not found:
        raise QueryError("the query is empty. Try: MATCH (e:Entity) RETURN e.label LIMIT 10")
    first = next((token for token in found if token.text.upper() not in ("EXPLAIN", "PROFILE")), found[-1])
    if first.text.upper() not in _READING_CLAUSES:
        raise _at(cypher, first, f"'{first.text}' does not begin a reading query, and the store is read-only", _HINT)
    for number, token in enumerate(found):
        before = found[number - 1].text if number else ""
        if token.text == ";":
            raise _at(cypher, token, "a second statement begins here; ask one at a time")
        if token.kind != "word" or before in (".", ":", "|", "$"):  # a property, type or parameter of this name
            continue
        if refused := _refused(before, found[number:], dialect):
            hint = _HINT
            if token.text.upper() == "CALL" and dialect == "neo4j":
                hint = f"Procedures that may be called: {', '.join(sorted(_READING_CALLS[dialect])).lower()}."
            raise _at(cypher, token, f"'{refused}' is not a reading query", hint)
    for token in found:
        if token.kind == "parameter" and token.text[1:] not in parameters:
            given = ", ".join(f"${name}" for name in parameters) or "none"
            raise _at(cypher, token, f"the parameter {token.text} has no value", f"Given: {given}.")


def _refused(before: str, found: Sequence[Token], dialect: Dialect) -> str:
    """What begins with a word and is not reading, as it is written; "" if the word is harmless."""
    word = found[0].text.upper()
    following = found[1].text if len(found) > 1 else ""
    written = f"{found[0].text} {following}"
    if word == "CALL":
        if dialect == "neo4j" and following in ("{", "("):  # a subquery: its own words are looked at too
            return ""
        name = _procedure(found[1:]) if dialect == "neo4j" else following
        return "" if name.upper() in _READING_CALLS[dialect] else f"{found[0].text} {name}"
    if dialect == "embedded":
        return written if word in ("LOAD", "COPY") and following.upper() in ("FROM", "WITH", "(") else ""
    if word == "LOAD" and following.upper() == "CSV":
        return written
    # another database; as the first word it was refused before
    return written if word == "USE" and before.upper() in ("{", "UNION", "ALL", "DISTINCT") else ""


def _procedure(found: Sequence[Token]) -> str:
    """The dotted name that a CALL begins with."""
    parts: list[str] = []
    for token in found:
        is_name = token.kind in ("word", "quoted")
        if is_name == (len(parts) % 2 == 1) or not (is_name or token.text == "."):
            break
        parts.append(token.text.strip("`"))
    return "".join(parts)


_HINT = "Read with MATCH, OPTIONAL MATCH, WITH, UNWIND and RETURN; a graph is changed by building it again."


def column_names(cypher: str, engine_names: list[str]) -> list[str]:
    """Names of the result's columns: the alias, else the expression as written, as Neo4j does it.

    The engine writes ``LABEL(r._ID,[,…])`` with all relationship types for ``type(r)``. Where the query does not say as
    many columns as came back (``RETURN *``, CALL) the engine's names stay.

    Raises:
        QueryError: two columns have one name, so that a row could not be told apart.
    """
    names = _written_names(cypher)
    if len(names) != len(engine_names) or "*" in names:
        names = engine_names
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise QueryError(f"two columns are called {', '.join(sorted(twice))}. Name them apart with AS.")
    return names


def _written_names(cypher: str) -> list[str]:
    items: list[list[Token]] = []
    depth = 0
    for token in tokens(cypher):
        word = token.text.upper() if token.kind == "word" else ""
        depth += (token.text in "([{") - (token.text in ")]}") if token.kind == "sign" else 0
        if not items:
            if depth == 0 and word == "RETURN":
                items.append([])
        elif depth == 0 and (word in _AFTER_RETURN or token.text == ";"):
            break
        elif depth == 0 and token.text == "," and token.kind == "sign":
            items.append([])
        elif not (items == [[]] and word == "DISTINCT"):
            items[-1].append(token)
    return [_item_name(cypher, item) for item in items if item]


def _item_name(cypher: str, item: list[Token]) -> str:
    if len(item) > 2 and item[-2].text.upper() == "AS":
        alias = item[-1]
        return alias.text[1:-1].replace("``", "`") if alias.kind == "quoted" else alias.text
    return cypher[item[0].start : item[-1].start + len(item[-1].text)]


def check_names_apart(cypher: str) -> None:
    """Refuse two columns of one name, where the query writes out its columns.

    Raises:
        QueryError: naming them.
    """
    names = _written_names(cypher)
    if "*" not in names:
        column_names(cypher, names)


def explain_error(cypher: str, message: str, known: Iterable[str], dialect: Dialect = "embedded") -> QueryError:
    """Our error for the engine's: its words, the line with a caret, and the nearest name that exists.

    Args:
        cypher: the query as the user wrote it.
        message: the engine's.
        known: relationship types and properties, of which an unknown name may be a misspelling.
        dialect: whose message it is.
    """
    if dialect == "neo4j":
        return _explain_neo4j(cypher, message)
    words = _PLACE.split(message, maxsplit=1)[0].strip()
    words = _LONG_WORDS.sub(lambda match: f"Invalid input, expected {match['rule']}" if match["rule"] else "", words)
    if place := _PLACE.search(message):
        # the engine counts lines from the first that is not empty
        lines = cypher.lstrip().split("\n")
        start = len(cypher) - len(cypher.lstrip()) + int(place["offset"])
        start += sum(len(text) + 1 for text in lines[: int(place["line"]) - 1])
        return _at(cypher, Token("sign", "", min(start, len(cypher))), words)
    for pattern in _UNKNOWN:
        if match := pattern.search(words):
            return explain_unknown(cypher, words, match["name"], known)
    return QueryError(words)


def explain_unknown(cypher: str, words: str, name: str, known: Iterable[str]) -> QueryError:
    """The error for a name that the store does not have: where it stands, and the nearest that it has."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else ""
    for token in tokens(cypher):
        if token.text.strip("`").casefold() == name.casefold():
            return _at(cypher, token, words, hint)
    return QueryError(f"{words} {hint}".strip())


def _explain_neo4j(cypher: str, message: str) -> QueryError:
    place = _PLACE_NEO4J.search(message)
    words = _PLACE_NEO4J.sub("", message).strip()
    hint = ""
    if match := _EXPECTED_NEO4J.match(words):
        near = difflib.get_close_matches(match["found"].upper(), re.findall(r"'(\w+)'", match["words"]), n=1)
        hint = f"Did you mean '{near[0]}'?" if near else ""
        if len(match["words"]) > 100:
            words = f"Invalid input '{match['found']}'"
    if place is None or place["line"] == "0":
        return QueryError(f"{words}. {hint}".strip() if hint else words)
    lines = cypher.split("\n")
    number = min(int(place["line"]), len(lines)) - 1
    # the server counts UTF-16 units
    column = len(lines[number].encode("utf-16-le")[: 2 * (int(place["column"]) - 1)].decode("utf-16-le", "ignore"))
    start = sum(len(line) + 1 for line in lines[:number]) + column
    word = next((token.text for token in tokens(cypher[start:])), "") if cypher[start : start + 1].strip() else ""
    return _at(cypher, Token("sign", word, start), words, hint)


def _at(cypher: str, token: Token, words: str, hint: str = "") -> QueryError:
    before = cypher[: token.start]
    line_start = before.rfind("\n") + 1
    line = cypher[line_start:].split("\n", 1)[0]
    column = token.start - line_start
    # a long line is cut around the place
    left = max(0, column - 80)
    shown = line[left : left + 160].replace("\t", " ")
    caret = " " * (column - left) + "^" * max(1, min(len(token.text), 40))
    end = f"\n{hint}" if hint else ""
    return QueryError(f"line {before.count(chr(10)) + 1}, column {column + 1}: {words}\n  {shown}\n  {caret}{end}")
