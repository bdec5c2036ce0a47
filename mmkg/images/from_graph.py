"""What a graph states about pictures: ``foaf:depiction``, ``dbo:thumbnail``, ``schema:image``.

Statements of them::

    dbr:Roderick_Carr foaf:depiction <http://commons.wikimedia.org/wiki/Special:FilePath/Air_Mshl_Sir_Roderick_Carr.jpg>
    dbr:Roderick_Carr dbo:thumbnail <http://commons.wikimedia.org/wiki/Special:FilePath/Air_Mshl_Sir_Roderick_Carr.jpg?width=300>
    yago:Elvis schema:image "http://commons.wikimedia.org/wiki/Special:FilePath/Elvis_Presley.jpg"^^xsd:anyURI
    dbr:$pread dbp:imageFile "Image:SpreadBrothelCover.jpg"@en

They are read from `triples_raw`, which has them as the sources state them; in the graph an address is an entity or a
literal. A bare name of a file, as infoboxes have it, is looked for on Commons. Some objects are no pictures: DBpedia
states ``dbr:African_grey_hornbill foaf:depiction dbr:Lake_Naivasha``. What lies where the sources keep their things, or
is itself described by a statement, is none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import duckdb
import pyarrow as pa

from mmkg.graph.identity import NAMESPACES
from mmkg.images.graph_view import BATCH_ROWS, index_iris, put
from mmkg.images.wikimedia import is_wikimedia, standard_thumbnail, thumbnail_of_file

COMMONS = "commons.wikimedia.org"

_MAX_URL_CHARACTERS = 8_000
_SAFE_IN_PATH = "/%:@!$&'()*+,;=-._~"
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
_FILE_NAME = re.compile(r"[^\n]+\.(?:jpe?g|png|gif|svg|webp|tiff?)", re.IGNORECASE)
# Pages and recordings, by their ending; what has no ending, or another one, may well be a picture.
_OTHER_MEDIA = re.compile(
    r"\.(?:html?|xhtml|pdf|djvu|og[gvax]|oga|mp[34]|webm|wav|midi?|flac|txt|xml|json|zip)", re.IGNORECASE
)


_PREFIXES = "|".join(re.escape(prefix) for prefixes in NAMESPACES.values() for prefix in prefixes)
_THINGS = re.compile(f"https?://(?:{_PREFIXES})")


@dataclass(frozen=True)
class Address:
    """Where a picture is asked for.

    Attributes:
        url: http or https; of Wikimedia the standard thumbnail.
        file_name: on a wiki of Wikimedia.
        source_page: of the wiki.
    """

    url: str
    file_name: str | None = None
    source_page: str | None = None


def picture_address(text: str, width_px: int) -> Address | str:
    """The address that is asked for where a statement or a list gives one.

    Args:
        text: an address, or a bare name of a file.
        width_px: of Wikimedia's thumbnails.

    Returns:
        The reason where it is none: ``bad_url`` (file:, data:, no host) or ``not_a_picture_url`` (an article, a sound).

    >>> picture_address("file:///etc/passwd", 330), picture_address("http://en.wikipedia.org/wiki/Peru", 330)
    ('bad_url', 'not_a_picture_url')
    """
    url = text.strip()
    if url.startswith("//"):
        url = "https:" + url
    match = _SCHEME.fullmatch(url)
    if match is None or match["scheme"].lower() in {"file", "image"}:
        # "Image:Peru.jpg" reads as an address with a scheme, and "file:///etc/passwd" is one
        if _FILE_NAME.fullmatch(url) and not (match and match["rest"].startswith("/")):
            file = thumbnail_of_file(url, COMMONS, width_px)
            return Address(file.url, file.file_name, file.source_page) if file else "not_a_picture_url"
        return "bad_url"
    if match["scheme"].lower() not in {"http", "https"} or len(url) > _MAX_URL_CHARACTERS:
        return "bad_url"
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return "bad_url"
    except ValueError:
        return "bad_url"
    if _THINGS.match(url):
        return "not_a_picture_url"
    if is_wikimedia(url):
        file = standard_thumbnail(url, width_px)
        return Address(file.url, file.file_name, file.source_page) if file else "not_a_picture_url"
    if _OTHER_MEDIA.search(parts.path[-6:]) and _OTHER_MEDIA.fullmatch("." + parts.path.rpartition(".")[2]):
        return "not_a_picture_url"
    path, query = quote(parts.path, safe=_SAFE_IN_PATH), quote(parts.query, safe=_SAFE_IN_PATH + "?")
    return Address(parts._replace(scheme=parts.scheme.lower(), path=path, query=query, fragment="").geturl())


def origin_of(predicate: str) -> str:
    """What the table calls candidates of a predicate: depiction, thumbnail or image."""
    name = predicate.lower()
    return "thumbnail" if "thumbnail" in name else "depiction" if "depiction" in name else "image"


def find_stated(connection: duckdb.DuckDBPyConnection, predicates: Sequence[str], width_px: int) -> None:
    """Append what the graph states to the tables `found` and `unmatched` of :mod:`mmkg.images.discover`.

    Args:
        connection: a graph, with `raw`.
        predicates: IRIs.
        width_px: of Wikimedia's thumbnails.
    """
    connection.execute(
        """
        CREATE OR REPLACE TABLE stated AS
        SELECT DISTINCT head AS iri, relation, coalesce(tail, value) AS object, tail IS NOT NULL AS is_node
        FROM raw WHERE relation IN (SELECT unnest($predicates))
        """,
        {"predicates": list(predicates)},
    )
    index_iris(connection, "stated", "stated_of")
    connection.execute("CREATE OR REPLACE TABLE described AS SELECT DISTINCT object FROM stated WHERE is_node")
    connection.execute("DELETE FROM described WHERE object NOT IN (SELECT head FROM raw)")
    rows = connection.cursor().execute(
        """
        SELECT iri, entity_index, relation, object, object IN (SELECT object FROM described) AS described
        FROM stated_of ORDER BY iri, relation, object
        """
    )
    places = {predicate: place for place, predicate in enumerate(predicates)}
    while batch := rows.fetchmany(BATCH_ROWS):
        found, unmatched = [], []
        for iri, entity_index, relation, text, described in batch:
            address = "not_a_picture_url" if described or text.startswith("_:") else picture_address(text, width_px)
            if entity_index is None:
                unmatched.append((iri, text, "no_entity", f"stated by {relation} of what is no entity of the graph"))
            elif isinstance(address, str):
                unmatched.append((iri, text, address, f"stated by {relation}"))
            else:
                found.append((entity_index, origin_of(relation), places[relation], address, relation))
        put_found(connection, found)
        put_unmatched(connection, unmatched)


def put_found(
    connection: duckdb.DuckDBPyConnection,
    rows: Sequence[tuple[int, str, int, Address, str]],
) -> None:
    """Append candidates with an address: entity_index, origin, place among those of the origin, address, detail."""
    if rows:
        addresses = [row[3] for row in rows]
        put(
            connection,
            "found",
            pa.table(
                {
                    "entity_index": pa.array([row[0] for row in rows], pa.int64()),
                    "origin": pa.array([row[1] for row in rows], pa.string()),
                    "position": pa.array([row[2] for row in rows], pa.int64()),
                    "url": pa.array([address.url for address in addresses], pa.string()),
                    "detail": pa.array([row[4] for row in rows], pa.string()),
                    "file_name": pa.array([address.file_name for address in addresses], pa.string()),
                    "source_page": pa.array([address.source_page for address in addresses], pa.string()),
                }
            ),
        )


def put_unmatched(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Append what became no candidate: place, name, reason, detail."""
    if rows:
        columns = zip(("place", "name", "reason", "detail"), zip(*rows, strict=True), strict=True)
        put(connection, "unmatched", pa.table({name: pa.array(values, pa.string()) for name, values in columns}))
