"""Wikimedia's files: from any address of one to its standard thumbnail, and to what the wiki says about its licence.

Where a picture stands here: it is an address that a graph or a list gave. All these are one file, and one candidate::

    http://commons.wikimedia.org/wiki/Special:FilePath/Flag_of_Peru.svg?width=300
    https://commons.wikimedia.org/wiki/File:Flag_of_Peru.svg
    http://upload.wikimedia.org/wikipedia/commons/c/cf/Flag_of_Peru.svg
    https://upload.wikimedia.org/wikipedia/commons/thumb/c/cf/Flag_of_Peru.svg/200px-Flag_of_Peru.svg.png

and are asked for as ``https://upload.wikimedia.org/wikipedia/commons/thumb/c/cf/Flag_of_Peru.svg/330px-Flag_of_Peru.svg.png``:
never the original, only widths that Wikimedia keeps (others are answered with 429), and not ``Special:FilePath``, which
their robots.txt forbids and which costs two redirects. The folder is the first one and two hex digits of the MD5 of the
file's name. A raster file that is narrower than the width has no such thumbnail and is answered with an error:
:func:`smaller_thumbnail` is what to ask then. A file that was renamed, or moved from a wiki to Commons, is a 404 there;
:func:`metadata_requests` follow redirects and give the thumbnail's present address.

Sources: phabricator T412971 (widths), mediawiki.org Manual:$wgHashedUploadDirectory (folders), API:Imageinfo.
"""

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from mmkg.errors import ImageError

STANDARD_WIDTHS_PX = (20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840)
TITLES_PER_REQUEST = 50
"""So many files the API describes at once."""

_MAX_URL_CHARACTERS = 7_000  # servers refuse 8,192
_MAX_NAME_BYTES = 240  # of a title
_MAX_THUMBNAIL_NAME_BYTES = 160  # a longer name is called "thumbnail" in its thumbnails
_UPLOAD_HOST = "upload.wikimedia.org"
_PROJECTS = (
    "wikipedia|wiktionary|wikiquote|wikibooks|wikisource|wikinews|wikiversity|wikivoyage"  # that have wikis by language
)
_WIKI_HOST = re.compile(rf"(?P<language>[a-z][a-z0-9-]*)(?:\.m)?\.(?P<project>{_PROJECTS}|wikimedia)\.org")
_SITE_PATH = re.compile(rf"(?P<project>{_PROJECTS})/(?P<site>[a-z][a-z0-9-]*)")
_FILE_TITLE = re.compile(
    r"(?:special:(?:filepath|redirect/file)/|(?:file|image|media|datei|fichier|archivo|imagen|bestand|файл):)(?P<name>.+)",
    re.IGNORECASE | re.DOTALL,
)
_FORBIDDEN_IN_NAME = re.compile(r"[\x00-\x1f\x7f<>\[\]{}|#/\\]")
_IN_UPLOAD = re.compile(
    r"/(?P<site>[a-z]+/[a-z][a-z0-9-]*)/(?:thumb/)?[0-9a-f]/[0-9a-f]{2}/(?P<name>[^/]+)(?P<thumbnail>/[^/]+)?"
)
_THUMBNAIL_WIDTH = re.compile(r"(?<=[/-])(?P<width>\d+)px-(?=[^/]*$)")
_TAG = re.compile(r"<[^>]*>")

# What stands before the width and after the name in a thumbnail, by the file's ending.
_THUMBNAIL_FORMS = {
    "jpg": ("", ""),
    "jpeg": ("", ""),
    "png": ("", ""),
    "gif": ("", ""),
    "svg": ("", ".png"),
    "webp": ("", ".png"),
    "xcf": ("", ".png"),
    "tif": ("lossy-page1-", ".jpg"),
    "tiff": ("lossy-page1-", ".jpg"),
    "pdf": ("page1-", ".jpg"),
    "djvu": ("page1-", ".jpg"),
}
PICTURE_ENDINGS = frozenset(_THUMBNAIL_FORMS) - {"pdf", "djvu"}
"""Of files that are pictures; a book's first page is not one of what the book is about."""


@dataclass(frozen=True)
class Wikimedia:
    """A file of a wiki.

    Attributes:
        url: of its thumbnail.
        file_name: with spaces, as on its page.
        source_page: its page.
        site: the wiki's host; metadata are asked of it.
    """

    url: str
    file_name: str
    source_page: str
    site: str


@dataclass(frozen=True)
class PageInfo:
    """What a wiki says about a file.

    Attributes:
        licence: short name, such as "CC BY-SA 4.0".
        author: as plain text.
        source_page: the file's page, after a renaming the new one.
        thumbnail_url: of the width that was asked for, or of the original where that is no wider.
        width_px: of the original.
        height_px: of the original.
    """

    licence: str | None
    author: str | None
    source_page: str | None
    thumbnail_url: str | None
    width_px: int | None
    height_px: int | None


def is_wikimedia(url: str) -> bool:
    """Whether an address is one of Wikimedia's wikis or of their upload server."""
    host = _host(url)
    return host == _UPLOAD_HOST or _WIKI_HOST.fullmatch(host) is not None


def standard_thumbnail(url: str, width_px: int) -> Wikimedia | None:
    """The thumbnail of a file of Wikimedia, of one of the standard widths.

    Args:
        url: any address of the file, its thumbnails or its page.
        width_px: the smallest standard width that is not below it is asked for; the widest beyond.

    Returns:
        None where the address is none of a picture of Wikimedia: another host, an article, a sound.

    >>> standard_thumbnail("http://commons.wikimedia.org/wiki/Special:FilePath/Flag_of_Peru.svg?width=300", 330).url
    'https://upload.wikimedia.org/wikipedia/commons/thumb/c/cf/Flag_of_Peru.svg/330px-Flag_of_Peru.svg.png'
    """
    found = _file_of(url)
    return None if found is None else thumbnail_of_file(found[1], found[0], width_px)


def thumbnail_of_file(name: str, site: str, width_px: int) -> Wikimedia | None:
    """The thumbnail of a file by its name.

    Args:
        name: such as ``Flag of Peru.svg`` or ``File:Flag_of_Peru.svg``.
        site: host of the wiki, such as ``commons.wikimedia.org``.
        width_px: as in :func:`standard_thumbnail`.

    Returns:
        None where the name is none of a picture, or the site is no wiki of Wikimedia's.
    """
    file_name = clean_file_name(name)
    path = _upload_path(site)
    if file_name is None or path is None:
        return None
    ending = file_name.rpartition(".")[2].lower()
    if ending not in PICTURE_ENDINGS:
        return None
    width = next((width for width in STANDARD_WIDTHS_PX if width >= width_px), STANDARD_WIDTHS_PX[-1])
    before, after = _THUMBNAIL_FORMS[ending]
    key = file_name.replace(" ", "_")
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    short = key if len(key.encode()) <= _MAX_THUMBNAIL_NAME_BYTES else f"thumbnail.{ending}"
    folder = f"https://{_UPLOAD_HOST}/{path}/thumb/{digest[0]}/{digest[:2]}/{_spell(key)}"
    page = f"https://{site}/wiki/File:{_spell(key)}"
    return Wikimedia(f"{folder}/{before}{width}px-{_spell(short)}{after}", file_name, page, site)


def smaller_thumbnail(url: str) -> str | None:
    """The same thumbnail in the next smaller standard width; None where there is none, or it is no thumbnail.

    To be asked where the server refuses a width because the original is not so wide.
    """
    match = _THUMBNAIL_WIDTH.search(url)
    if _host(url) != _UPLOAD_HOST or match is None:
        return None
    smaller = [width for width in STANDARD_WIDTHS_PX if width < int(match["width"])]
    return f"{url[: match.start()]}{smaller[-1]}px-{url[match.end() :]}" if smaller else None


def clean_file_name(name: str) -> str | None:
    """A file's name as its page has it: no namespace, spaces for underscores, composed, first letter in upper case.

    >>> clean_file_name("File:flag_of_Peru.svg")
    'Flag of Peru.svg'
    """
    match = _FILE_TITLE.fullmatch(name.strip().replace(" ", "_"))
    bare = match["name"] if match else name
    plain = " ".join(unicodedata.normalize("NFC", bare).replace("_", " ").split())
    if not plain or len(plain.encode()) > _MAX_NAME_BYTES or _FORBIDDEN_IN_NAME.search(plain):
        return None
    first = plain[0].upper()
    return (first if len(first) == 1 else plain[0]) + plain[1:]  # as MediaWiki has it, ß stays


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:  # a bracket that is no IPv6 address
        return ""


def _file_of(url: str) -> tuple[str, str] | None:
    """Site and name of the file that an address is about."""
    host = _host(url)
    if host == _UPLOAD_HOST:
        match = _IN_UPLOAD.fullmatch(unquote(urlsplit(url).path))
        site = _site_of_path(match["site"]) if match else None
        return (site, match["name"]) if match and site else None
    if _upload_path(host) is None:
        return None
    parts = urlsplit(url)
    path = unquote(parts.path)
    title = path.removeprefix("/wiki/") if path.startswith("/wiki/") else ""
    if path == "/w/index.php":
        title = parse_qs(parts.query).get("title", [""])[0]
    name = _FILE_TITLE.fullmatch(title.replace(" ", "_"))
    return (host.replace(".m.", "."), name["name"]) if name else None


def _upload_path(host: str) -> str | None:
    """Folder of the upload server that holds a wiki's files; Commons and others without language are in `wikipedia`."""
    match = _WIKI_HOST.fullmatch(host)
    if match is None or match["language"] in {"www", "upload", "api"}:
        return None
    project = "wikipedia" if match["project"] == "wikimedia" else match["project"]
    return f"{project}/{match['language']}"


def _site_of_path(path: str) -> str | None:
    match = _SITE_PATH.fullmatch(path)
    if match is None:
        return None
    project = "wikimedia" if match["site"] in {"commons", "meta", "species", "incubator"} else match["project"]
    return f"{match['site']}.{project}.org"


def _spell(key: str) -> str:
    """A name in a path, as MediaWiki spells it."""
    return quote(key, safe="!$()*,-.:;@_~")


def metadata_requests(file_names: Sequence[str], site: str, *, width_px: int = 330) -> list[str]:
    """Addresses that answer with licence and author of files, `TITLES_PER_REQUEST` files each.

    Args:
        file_names: as in :class:`Wikimedia`.
        site: the wiki's host.
        width_px: a standard width, of which the answer names the thumbnail.
    """
    fixed = {
        "action": "query",
        "format": "json",
        "formatversion": "2",
        "redirects": "1",
        "prop": "imageinfo",
        "iiprop": "url|size|extmetadata",
        "iiurlwidth": str(width_px),
        "iiextmetadatafilter": "LicenseShortName|License|UsageTerms|Artist|Credit",
        "iiextmetadatalanguage": "en",
        "maxlag": "5",
    }
    start = f"https://{site}/w/api.php?{urlencode(fixed)}&titles="
    requests: list[str] = []
    titles: list[str] = []
    for title in (quote(f"File:{name}", safe="") for name in dict.fromkeys(file_names)):
        length = len(start) + sum(len(other) + 3 for other in titles) + len(title)
        if titles and (len(titles) == TITLES_PER_REQUEST or length > _MAX_URL_CHARACTERS):
            requests.append(start + "%7C".join(titles))
            titles = []
        titles.append(title)
    return [*requests, start + "%7C".join(titles)] if titles else requests


def parse_metadata(body: bytes) -> dict[str, PageInfo]:
    """Read an answer to one of :func:`metadata_requests`.

    Returns:
        What is known, by file name as it was asked for and as the wiki has it; files that are missing are left out.

    Raises:
        ImageError: the answer is no description of files; the API's own words where it gave some.
    """
    try:
        answer = json.loads(body)
        if "error" in answer:
            raise ImageError(
                f"Wikimedia's API refused: {answer['error'].get('info', answer['error'])}. Ask later again."
            )
        query = answer.get("query", {})
        named = {
            page["title"]: _page_info(page["imageinfo"][0]) for page in query.get("pages", []) if page.get("imageinfo")
        }
        renamed = [(step["from"], step["to"]) for kind in ("redirects", "normalized") for step in query.get(kind, [])]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ImageError(
            f"an answer of Wikimedia's API that describes no files ({error!r}): {body[:80]!r}. Ask later again."
        ) from error
    # What was asked is normalised first and redirected then, so the way back is in the other order.
    for asked, title in renamed:
        if title in named:
            named[asked] = named[title]
    return {title.partition(":")[2]: info for title, info in named.items()}


def _page_info(image: dict[str, Any]) -> PageInfo:
    about = image.get("extmetadata") or {}
    licence = next(filter(None, (_plain(about, key) for key in ("LicenseShortName", "UsageTerms", "License"))), None)
    return PageInfo(
        licence=licence,
        author=_plain(about, "Artist") or _plain(about, "Credit"),
        source_page=image.get("descriptionurl"),
        thumbnail_url=image.get("thumburl"),
        width_px=image.get("width"),
        height_px=image.get("height"),
    )


def _plain(about: dict[str, Any], key: str) -> str | None:
    value = about.get(key, {}).get("value")
    return None if value is None else " ".join(html.unescape(_TAG.sub(" ", str(value))).split()) or None
