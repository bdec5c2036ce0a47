"""Pictures in folders of this machine: which files there are, and what a mapping or their names say is on them.

A mapping ties files to entities. All of these say the same::

    {"AD": "Andorra", "AE": "United Arab Emirates"}          JSON: file → entity
    [{"file": "ad.png", "entity": "/m/0hg5"}]                JSON: rows
    {"file": "ad.png", "entity": "Q228"}                     JSON lines
    file⇥entity                                              TSV or CSV with a line of column names
    ad⇥Andorra

A file may stand without its ending and in other case, and a folder stands for the pictures in it. Compression is seen
by content. Pictures have the address ``folder:NAME/FILE``, which :func:`find_file` turns into a path.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmkg.config import ImagesConfig, PictureFolderConfig
from mmkg.errors import ConfigError, ImageError, unknown_name
from mmkg.images.library import FOLDER_SCHEME
from mmkg.images.url_lists import numbered_lines
from mmkg.sources.streams import sniff_compression

PICTURE_ENDINGS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".jp2",
        ".ppm",
    }
)
"""What else lies in a folder is passed over."""

_SEPARATORS = re.compile(r"[-_\s]+")


@dataclass(frozen=True, slots=True)
class NamedPicture:
    """A picture and what is said to be on it.

    Attributes:
        file: path below the folder, with slashes.
        name: an IRI, an id or a name; None where nothing is said.
        said_by: line of the mapping; "" by name.
        licence: of this picture or its folder; None where not known.
        author: likewise.
        source_page: likewise.
    """

    file: str
    name: str | None
    said_by: str = ""
    licence: str | None = None
    author: str | None = None
    source_page: str | None = None


def list_pictures(folder: PictureFolderConfig) -> list[str]:
    """The pictures of a folder by their endings, as sorted paths below it.

    Raises:
        ConfigError: the folder is not there.
    """
    root = Path(folder.path)
    if not root.is_dir():
        raise ConfigError(
            f"images.folders: {folder.path}: no such folder. Paths in a config are relative to the config file."
        )
    found = {path for pattern in folder.files for path in root.glob(pattern)}
    pictures = (path for path in found if path.suffix.lower() in PICTURE_ENDINGS and path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in pictures)


def place_of(folder: PictureFolderConfig, file: str) -> str:
    """The address of a picture of a folder."""
    return f"{FOLDER_SCHEME}{folder.name}/{file}"


def find_file(images: ImagesConfig, url: str) -> Path:
    """The path of a picture by its address.

    Args:
        images: names the folders.
        url: ``folder:NAME/FILE``.

    Raises:
        ImageError: the config has no such folder, or the address leads out of it.
    """
    if not url.startswith(FOLDER_SCHEME):
        raise ImageError(f"{url}: no address of a local folder. Expected folder:NAME/FILE.")
    rest = url.removeprefix(FOLDER_SCHEME)
    # A name may hold a slash, and then begin with another's: the longest one is meant.
    for folder in sorted(images.folders, key=lambda folder: -len(folder.name)):
        if rest.startswith(folder.name + "/"):
            file = PurePosixPath(rest[len(folder.name) + 1 :])
            if file.is_absolute() or ".." in file.parts or not file.parts:
                raise ImageError(f"{url}: leads out of the folder {folder.path}.")
            return Path(folder.path) / file
    known = [folder.name for folder in images.folders]
    raise ImageError(
        f"{url}: {unknown_name('folder of pictures', rest.partition('/')[0], known)} "
        "Name it under [[images.folders]], or run `mmkg build` again."
    )


def read_folder(folder: PictureFolderConfig) -> Iterator[NamedPicture | tuple[str, str]]:
    """The pictures of a folder and what each shows.

    Yields:
        A picture, once for each entity that it is said to show; or line and file of a row whose file is not there.

    Raises:
        ConfigError: folder, mapping, a column or the pattern is not as the config says.
    """
    files = list_pictures(folder)
    yield from _by_mapping(folder, files) if folder.mapping else _by_name(folder, files)


def _by_name(folder: PictureFolderConfig, files: list[str]) -> Iterator[NamedPicture]:
    pattern = _pattern(folder)
    for file in files:
        match = pattern.search(file) if pattern else None
        name = (match["name"] if match else None) if pattern else PurePosixPath(file).stem
        words = _SEPARATORS.sub(" ", name).strip() if name else None
        yield _picture(folder, file, words or None, "", {})


def _pattern(folder: PictureFolderConfig) -> re.Pattern[str] | None:
    if not folder.name_pattern:
        return None
    try:
        pattern = re.compile(folder.name_pattern)
    except re.error as error:
        raise ConfigError(f"images.folders '{folder.name}': name_pattern is no regular expression: {error}") from error
    if "name" not in pattern.groupindex:
        raise ConfigError(
            f"images.folders '{folder.name}': name_pattern {folder.name_pattern!r} has no group (?P<name>…)"
        )
    return pattern


def _by_mapping(folder: PictureFolderConfig, files: list[str]) -> Iterator[NamedPicture | tuple[str, str]]:
    known = _by_reference(files)
    mapping = Path(folder.mapping)
    mapped = set()
    for line, row in read_mapping(mapping, folder.file_column, folder.entity_column):
        said_by = f"{mapping.name}:{line}"
        asked = _text(row.get(folder.file_column))
        found = next((known[key] for key in _references(asked or "") if key in known), [])
        if not found and asked:
            yield said_by, asked
        for file in found:
            mapped.add(file)
            yield _picture(folder, file, _text(row.get(folder.entity_column)), said_by, row)
    for file in files:
        if file not in mapped:
            yield _picture(folder, file, None, "", {})


def _by_reference(files: list[str]) -> dict[str, list[str]]:
    """Files by all that a mapping may call them: the path, without ending, the folder; each also in lower case."""
    known: dict[str, list[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        names = [file, path.with_suffix("").as_posix(), *(str(parent) for parent in path.parents if parent.name)]
        for name in dict.fromkeys([*names, *(name.casefold() for name in names)]):
            known.setdefault(name, []).append(file)
    return known


def _references(asked: str) -> list[str]:
    plain = asked.replace("\\", "/").removeprefix("./").rstrip("/")
    return [plain, plain.casefold()]


def _picture(
    folder: PictureFolderConfig, file: str, name: str | None, said_by: str, row: Mapping[str, Any]
) -> NamedPicture:
    return NamedPicture(
        file=file,
        name=name,
        said_by=said_by,
        licence=_text(row.get("licence")) or folder.licence or None,
        author=_text(row.get("author")) or folder.author or None,
        source_page=_text(row.get("source_page")) or folder.source_page or None,
    )


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).encode("utf-8", errors="replace").decode()  # JSON may hold half a character: "\\ud800"
    return text.strip() or None


def read_mapping(path: Path, file_column: str, entity_column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a mapping, each with its line (JSON: its number).

    Raises:
        ConfigError: it is not there, not of a form that we read, or lacks one of the two columns.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such mapping. Paths in a config are relative to the config file.")
    ending = (
        path.with_suffix("").suffix
        if sniff_compression(path) != "plain" and path.with_suffix("").suffix
        else path.suffix
    )
    if ending.lower() in {".json", ".jsonl", ".ndjson"}:
        rows = _json_rows(path, ending.lower(), file_column, entity_column)
    else:
        rows = _table_rows(path, ending.lower())
    columns: dict[str, None] = {}
    checked = False
    for line, row in rows:
        columns.update(dict.fromkeys(row))
        if not checked and file_column in columns and entity_column in columns:
            checked = True
        yield line, row
    if not checked:
        missing = next((name for name in (file_column, entity_column) if name not in columns), file_column)
        raise ConfigError(f"{path}: {unknown_name('column', missing, columns)} Set file_column and entity_column.")


def _table_rows(path: Path, ending: str) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = ((number, line) for number, line in numbered_lines(path) if line.strip())
    first = next(lines, None)
    if first is None:
        return
    is_csv = ending == ".csv" or ("\t" not in first[1] and ending != ".tsv")
    # Quotes mean something in CSV only; in TSV they stand in names.
    split = (lambda line: next(csv.reader([line]))) if is_csv else (lambda line: line.split("\t"))
    columns = [column.strip() for column in split(first[1])]
    for number, line in lines:
        try:
            yield number, dict(zip(columns, split(line), strict=False))
        except csv.Error as error:
            raise ConfigError(f"{path}:{number}: no row of a CSV ({error}). Mend or remove the line.") from error


def _json_rows(path: Path, ending: str, file_column: str, entity_column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = [(number, line) for number, line in numbered_lines(path) if line.strip()]
    try:
        if ending == ".json":
            yield from _rows_of(json.loads("\n".join(line for _, line in lines)), file_column, entity_column)
            return
        for number, line in lines:
            yield number, _row_of(json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: no mapping that we read ({error}). Expected rows, or file and entity.") from error


def _rows_of(content: object, file_column: str, entity_column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if isinstance(content, Mapping):
        for number, (key, value) in enumerate(content.items(), start=1):
            more = value if isinstance(value, Mapping) else {entity_column: value}
            yield number, {file_column: key, **more}
    elif isinstance(content, list):
        yield from ((number, _row_of(row)) for number, row in enumerate(content, start=1))
    else:
        raise TypeError(f"{type(content).__name__} where rows were expected")


def _row_of(row: object) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError(f"a row is {row!r:.40}")
    return row
