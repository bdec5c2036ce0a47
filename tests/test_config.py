"""One TOML file describes one graph; what is wrong in it is named, with what was meant."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmkg.config import Config, GraphConfig, override, parse_config, read_config
from mmkg.engine import memory_mebibytes, open_engine
from mmkg.errors import ConfigError, NotInstalled

SMALL = '[graph]\nname = "g"\n[[sources]]\nkind = "tsv"\npaths = ["a.tsv", "/abs/b.tsv"]\n'


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "g.toml"
    path.write_text(text, encoding="utf-8")
    return path


def make(**sections: Any) -> Config:
    data = {"graph": {"name": "g"}, "sources": [{"kind": "tsv", "paths": ["a"]}], **sections}
    return parse_config(data, Path("g.toml"))


def test_a_small_file_is_enough_and_paths_become_absolute(tmp_path: Path) -> None:
    extra = '[[links]]\nkind = "sameas"\npaths = ["l.nt"]\n[checks]\nshapes = ["s.ttl"]\n'
    config = read_config(write(tmp_path / "sub", SMALL + extra))
    folder = tmp_path / "sub"
    assert config.graph.output == folder / "builds"
    assert config.sources[0].paths == (str(folder / "a.tsv"), "/abs/b.tsv")
    assert config.links[0].paths == (str(folder / "l.nt"),)
    assert config.checks.shapes == (str(folder / "s.ttl"),)
    assert config.sources[0].name == "tsv"


def test_a_config_cannot_be_changed() -> None:
    config = make()
    with pytest.raises(ValidationError):
        config.graph.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALL + "[stroe]\n", "unknown key 'stroe'. Did you mean 'store'? Known here: graph, sources"),
        (SMALL + "pahts = []\n", "unknown key 'sources.0.pahts'. Did you mean 'paths'?"),
        (SMALL + "[splits]\ntset = 0.1\n", "unknown key 'splits.tset'. Did you mean 'test'?"),
        (SMALL + "[graph.zzz]\n", "unknown key 'graph.zzz'. Known here: name, output"),
        ('[graph]\nname = "g"\n', "sources: Field required."),
        (SMALL.replace('"g"', '"../g"'), "graph.name: String should match"),
        (SMALL + "[splits]\nvalid = 0.6\ntest = 0.4\n", "splits: valid + test is 1, which leaves nothing for train"),
        (SMALL + "[splits]\nfrom_sources = true\n", "splits.from_sources is set, but no [[sources]] has `split`"),
        (SMALL + "[splits]\nvalid = -1\n", "splits.valid: Input should be greater than or equal to 0. Found: -1."),
        ("[graph\n", "not a TOML file"),
        ("", "graph: Field required."),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert words in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_config(write(tmp_path, SMALL + "[splits]\nvalid = 2\nx = 1\n"))
    assert len(str(error.value).splitlines()) == 2


def test_a_path_that_is_no_readable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_config(tmp_path / "latin.toml")


def test_more_sources_than_bits_are_refused() -> None:
    sources = [{"kind": "tsv", "paths": ["a"], "name": f"s{i % 64}"} for i in range(100)]
    with pytest.raises(ConfigError, match="64 names of sources, but a build tells at most 63 apart"):
        make(sources=sources)
    assert len(make(sources=sources[:63]).source_names) == 63


def test_languages_are_lower_case_as_in_the_tables() -> None:
    assert make(graph={"name": "g", "languages": ["en-GB", "EN"]}).graph.languages == ("en-gb", "en")


# --- --set -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "where", "value"),
    [
        ("graph.workers=2", ("graph", "workers"), 2),
        ("graph.name=other", ("graph", "name"), "other"),
        ('graph.name="2"', ("graph", "name"), "2"),
        ("graph.output=a=b", ("graph", "output"), "a=b"),
        ("graph.output=", ("graph", "output"), ""),
        ("graph.output=1\ny = 2", ("graph", "output"), "1\ny = 2"),
        ("sources.0.fold_cvt=true", ("sources", 0, "fold_cvt"), True),
        ('sources.0.paths.1="c"', ("sources", 0, "paths", 1), "c"),
        ("store.min_attribute_share=0.5", ("store", "min_attribute_share"), 0.5),
    ],
)
def test_a_setting_replaces_one_value(setting: str, where: tuple[Any, ...], value: Any) -> None:
    data: Any = {"graph": {"name": "g"}, "sources": [{"kind": "tsv", "paths": ["a", "b"]}]}
    override(data, [setting])
    for step in where:
        data = data[step]
    assert data == value and type(data) is type(value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("graph.workers", "expected key=value"),
        ("=2", "expected key=value"),
        ("graph..workers=2", "expected key=value"),
        ("graph.=2", "expected key=value"),
        ("graph.name.x=2", "'name' is a value, not a section"),
        ("sources.7.kind=x", "'7' is not one of the 1 items, which count from 0"),
        ("sources.first.kind=x", "'first' is not one of the 1 items"),
        ("sources.kind=x", "'kind' is not one of the 1 items"),
        ("sources.0.paths.9=x", "'9' is not one of the 1 items"),
    ],
)
def test_a_setting_that_leads_nowhere_is_named(setting: str, words: str) -> None:
    data: dict[str, Any] = {"graph": {"name": "g"}, "sources": [{"kind": "tsv", "paths": ["a"]}]}
    with pytest.raises(ConfigError) as error:
        override(data, [setting])
    assert words in str(error.value) and str(error.value).startswith(f"--set {setting}: ")


# --- engine ----------------------------------------------------------------------------------------------------------


def test_the_engine_has_the_configs_memory_and_threads_and_spills_where_it_is_told(tmp_path: Path) -> None:
    spill = tmp_path / "not" / "there" / "yet"
    with open_engine(GraphConfig(name="g", memory_limit="300MB", workers=1), spill) as engine:
        [row] = engine.raw_sql(
            "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
        ).fetchall()
        assert row[:2] == ("286.1 MiB", 1)
        assert Path(row[2]).parent == spill
    assert not list(spill.iterdir())


@pytest.mark.parametrize(
    ("limit", "mebibytes"), [("4GB", 3814), ("4 GiB", 4096), ("1.5GiB", 1536), ("1TB", 953674), ("500 MB", 476)]
)
def test_memory_limits_in_mebibytes(limit: str, mebibytes: int) -> None:
    assert memory_mebibytes(limit) == mebibytes


def test_spark_without_its_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyspark", None)
    with (
        pytest.raises(NotInstalled, match=r"mmkg\[spark\]"),
        open_engine(GraphConfig(name="g", engine="spark")),
    ):
        pass
