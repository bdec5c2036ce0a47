"""User names and passwords of URLs stand in nothing that others read; everything else of a URL or config does."""

from pathlib import Path

import pytest

from mmkg.config import Config, SourceConfig, StoreConfig, parse_config
from mmkg.web import shown_config, shown_url

_URL = "https://me:secret@h.example/x.nt"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (_URL, "https://h.example/x.nt"),
        ("https://me@h.example/@team/x.nt#top", "https://h.example/@team/x.nt"),
        ("https://me:se@cret@h.example/x.nt", "https://h.example/x.nt"),
        ("https://me:se/cret@h.example/x.nt", "https://h.example/x.nt"),
        ("https://me:secret@[::1/x.nt", "https://[::1/x.nt"),
        ("me:secret@h.example/x.nt", "h.example/x.nt"),
        ("x.nt", "x.nt"),
    ],
)
def test_a_url_is_shown_without_credentials_also_where_it_is_misspelt(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def _config() -> Config:
    data = {
        "graph": {"name": "g"},
        "sources": [
            {
                "kind": "ntriples",
                "urls": [_URL, "https://h.example/y.nt"],
                "sha256": {_URL: "https://me:secret@h.example/SUMS", "https://h.example/y.nt": "0" * 64},
            },
            {"kind": "sparql", "sparql": {"endpoint": "https://H.example:443/sparql", "predicates": ["http://a/p"]}},
        ],
        "fetch": {"mirrors": ["https://me:secret@m.example/dumps"]},
        "notify": {"webhook": "https://hook.example/secret"},
        "store": {"uri": "neo4j://localhost:7687"},
    }
    return parse_config(data, Path("g.toml"))


def test_a_config_is_shown_without_credentials_and_is_still_one() -> None:
    config = _config()
    shown = shown_config(config)
    assert "secret" not in str(shown)
    assert "me:" not in str(shown)
    assert StoreConfig.model_validate(shown["store"]) == config.store
    read = Config.model_validate(shown)
    assert read.sources[0].urls == ("https://h.example/x.nt", "https://h.example/y.nt")
    assert read.sources[0].sha256 == {
        "https://h.example/x.nt": "https://h.example/SUMS",
        "https://h.example/y.nt": "0" * 64,
    }
    assert read.fetch.mirrors == ("https://m.example/dumps",)
    assert SourceConfig.model_validate(shown["sources"][1]) == config.sources[1]  # the folder of a pull is named by it


def test_what_is_shown_is_the_config_itself_where_there_is_nothing_to_hide() -> None:
    config = _config().model_copy(
        update={"sources": _config().sources[1:], "fetch": Config.model_fields["fetch"].default}
    )
    assert shown_config(config) == config.model_dump(mode="json", exclude={"notify"})
