"""What is printed from the code is fresh, and what is written by hand holds."""

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest

from mmkg.config import config_schema
from mmkg.tables import SCHEMAS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def print_schemas() -> ModuleType:
    spec = importlib.util.spec_from_file_location("print_schemas", ROOT / "schemas" / "print_schemas.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_printed_schemas_are_those_of_the_code(print_schemas: ModuleType, tmp_path: Path) -> None:
    fresh = {path.relative_to(tmp_path): path.read_text("utf-8") for path in print_schemas.print_schemas(tmp_path)}
    kept = {
        path.relative_to(ROOT / "schemas"): path.read_text("utf-8")
        for folder in ("arrow", "config")
        for path in (ROOT / "schemas" / folder).iterdir()
    }
    assert kept == fresh, "run `python schemas/print_schemas.py`"


def test_every_table_is_printed_with_its_nulls(print_schemas: ModuleType) -> None:
    assert print_schemas.describe_table(SCHEMAS["findings"]) == (
        "check    string  not null\nsubject  string  not null\ndetail   string  not null\n"
    )


def test_the_config_schema_is_one_and_knows_every_section() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"graph", "sources", "links", "identity", "splits", "store", "checks"} <= set(schema["properties"])


EXAMPLES = sorted((ROOT / "examples").glob("*/*.toml"))
CONFIGS = [path for path in EXAMPLES if "sources" in tomllib.loads(path.read_text("utf-8"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_examples_fit_the_config_schema(path: Path) -> None:
    data = tomllib.loads(path.read_text("utf-8"))
    jsonschema.validate(data, json.loads((ROOT / "schemas/config/mmkg.schema.json").read_text("utf-8")))


def test_there_are_examples() -> None:
    assert CONFIGS


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"graph": {"name": "g"}, "sources": []},
        {"graph": {"name": "g"}, "sources": [{"kind": "tsv", "paths": ["a"], "pahts": []}]},
        {"graph": {"name": "../g"}, "sources": [{"kind": "tsv", "paths": ["a"]}]},
        {"graph": {"name": "g", "workers": -1}, "sources": [{"kind": "tsv", "paths": ["a"]}]},
    ],
)
def test_the_config_schema_refuses_what_the_code_refuses(data: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, config_schema())
