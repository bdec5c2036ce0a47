"""Prints `arrow/` from the tables and `config/` from the models of the config: ``python schemas/print_schemas.py``.

A test runs it into another folder and compares, so what lies here is never behind the code.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa

from mmkg.config import config_schema
from mmkg.tables import SCHEMAS


def describe_table(schema: pa.Schema) -> str:
    """One line a column: name, type, and whether it may be null."""
    width = max(len(column.name) for column in schema)
    lines = (f"{c.name:<{width}}  {c.type}{'' if c.nullable else '  not null'}" for c in schema)
    return "\n".join(lines) + "\n"


def print_schemas(folder: Path) -> list[Path]:
    """Write all schemas below a folder; returns their paths."""
    files = {folder / "arrow" / f"{name}.txt": describe_table(schema) for name, schema in SCHEMAS.items()}
    files[folder / "config" / "mmkg.schema.json"] = json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


if __name__ == "__main__":
    print_schemas(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
