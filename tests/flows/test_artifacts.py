"""What a run shows, without a server: nothing of a dump becomes markup, and progress is told at a bearable pace."""

import pytest

from mmkg.config import parse_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside prefect


def _config(tmp_path, name):
    return parse_config(
        {"graph": {"name": name}, "sources": [{"kind": "tsv", "paths": ["a.tsv"]}]}, tmp_path / "a.toml"
    )


def test_the_key_of_an_artifact_is_one_that_prefect_takes(tmp_path):
    from flows.artifacts import artifact_key

    assert artifact_key("dumps", _config(tmp_path, "FB15k_237.v2-")) == "dumps-fb15k-237-v2"


def test_what_a_dump_calls_a_thing_neither_ends_its_cell_nor_becomes_markup():
    from flows.artifacts import _cell

    assert _cell("a|b\n<img src=x> [c](d) **e**") == r"a\|b \<img src=x\> \[c\]\(d\) \*\*e\*\*"
    assert _cell(12345) == "12,345"


def test_the_load_of_a_server_is_shown_at_its_beginning_its_end_and_every_few_seconds(monkeypatch, tmp_path):
    from flows import artifacts

    clock = iter([100.0, 101.0, 104.9, 105.1, 105.2, 105.3, 105.4])
    shown = []
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda progress, **_: shown.append(progress) or "id")
    monkeypatch.setattr(artifacts, "update_progress_artifact", lambda progress, **_: shown.append(progress))
    tell = artifacts.show_progress(_config(tmp_path, "a"), "load")
    for done in (0, 100, 500, 600, 1000):
        tell("nodes", done, 1000)
    tell("clean-up", 5, None)  # nobody knows how much there is
    tell("clean-up", 6, None)
    assert shown == [0, 60, 100, 0]
