"""How commands print: tables for people, JSON for machines."""

import datetime
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmkg.errors import ConfigError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
BuildArgument = Annotated[
    str,
    typer.Argument(metavar="BUILD", help="A build's folder, such as builds/atlas, or a graph's name under builds/."),
]
VersionOption = Annotated[str | None, typer.Option("--version", help="Another version than the one being served.")]

_DUMP_COLUMNS = ("dump", "lines", "triples", "qualifiers", "rejects", "comments", "blank", "repaired")

# Piped output is not folded: a program or a log reads it.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 1000)


def check_output(path: Path, *endings: str) -> None:
    """Check, before any work is done, that a file can be written.

    Args:
        path: of the file.
        endings: such as ``.png``, one of which it must have; any unless given.

    Raises:
        ConfigError: it cannot be written, or ends otherwise.
    """
    if endings and path.suffix.lower() not in endings:
        example = f"{path.stem}{endings[0]}"
        raise ConfigError(f"{path}: expected a file that ends in {' or '.join(endings)}, such as {example}")
    if path.is_dir():
        example = f"{path / 'out'}{endings[0] if endings else ''}"
        raise ConfigError(f"{path}: is a folder. Expected a file, such as {example}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}. Make it first, or choose another.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{path}: may not be written by this user. Choose another place.")


def print_json(value: object) -> None:
    """Print a value as JSON; dates, paths and sets become strings and lists."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=_plain)
    print()


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows under their columns; numbers to the right with thousands separated."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        numeric = rows and all(isinstance(row[position], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[cell_text(value) for value in row])
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        print(line.rstrip())


def print_dumps(dumps: Sequence[Mapping[str, Any]], *, with_source: bool = True) -> None:
    """Print what became of the lines of each dump."""
    columns = ("source", *_DUMP_COLUMNS) if with_source else _DUMP_COLUMNS
    print_table(columns, [[dump[column] for column in columns] for dump in dumps])


def cell_text(value: object) -> str:
    """One value of a table as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 2**53 else f"{value:,.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell_text(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {cell_text(item)}" for key, item in value.items())
    return str(value).replace("[", r"\[")
