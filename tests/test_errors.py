"""Messages that end the search."""

import sys
from pathlib import Path

import pytest

from mmkg import errors
from mmkg.errors import MmkgError, NotInstalled, require, unknown_name


def test_everything_raised_on_purpose_is_one_family() -> None:
    raised = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(raised) > 10
    assert all(issubclass(error, MmkgError) for error in raised)


def test_an_unknown_name_brings_the_nearest_and_all() -> None:
    assert unknown_name("source", "dbpeda", iter(["yago", "dbpedia"])) == (
        "no source is called 'dbpeda'. Did you mean 'dbpedia'? Known: dbpedia, yago."
    )
    assert unknown_name("build", "zzz", ["atlas"]) == "no build is called 'zzz'. Known: atlas."
    assert unknown_name("build", "zzz", []) == "no build is called 'zzz'. Known: none."


def test_what_is_installed_is_imported() -> None:
    assert require("json.decoder", extra="x", needed_by="a test").__name__ == "json.decoder"


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(NotInstalled, match=r"^the RGAT encoder needs 'no_such_thing': pip install 'mmkg\[graph\]'$"):
        require("no_such_thing.inner", extra="graph", needed_by="the RGAT encoder")


def test_a_package_that_is_there_but_broken_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_thing.py").write_text("import no_such_thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotInstalled, match="'broken_thing', which is installed but does not import"):
        require("broken_thing", extra="graph", needed_by="a test")
    assert "broken_thing" not in sys.modules
