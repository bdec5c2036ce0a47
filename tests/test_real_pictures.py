"""Real pictures: fetched from a server as bad as the web, decoded, told apart, and in builds that are killed."""

import gzip
import hashlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmkg.config import DecodeConfig, ImageFetchConfig, ImagesConfig, read_config
from mmkg.images.collect import collect
from mmkg.images.decode import Decoder
from mmkg.images.duplicates import find_near_duplicates
from mmkg.images.library import PictureLibrary
from mmkg.images.recorder import ATTEMPTS_PER_SHARD
from tests.images.fetching import CONTACT
from tests.images.killed_builds import Moment, check_whole, compare_builds, kill_at, stages_of
from tests.images.real_pictures import list_files, read_table
from tests.servers.troubled import Troubles, find_impatient, serve_troubled

pytestmark = [pytest.mark.shared, pytest.mark.slow]

CONNECTIONS = 4
BAD_WEB = Troubles(requests_per_second=150, late=0.05, cut=0.05, slow=0.02, busy=0.01)
SLOW_WEB = Troubles(slow=0.05, missing=0.03)  # says the same whenever it is asked


@pytest.fixture(scope="module")
def files(shared_data: Path) -> dict[str, bytes]:
    """All pictures by their paths below the shared data."""
    return {path.relative_to(shared_data).as_posix(): path.read_bytes() for path in list_files(shared_data)}


@pytest.fixture(scope="module")
def decoded(files: dict[str, bytes]) -> dict[str, dict[str, object]]:
    """Rows of `pictures` by one of their paths, each content once."""
    names = {hashlib.sha256(data).hexdigest(): name for name, data in reversed(files.items())}
    with Decoder(DecodeConfig()) as decoder:
        rows = decoder.decode((sha256, files[name]) for sha256, name in names.items()).drop_columns(["normalised"])
    return {names[row["sha256"]]: row for row in rows.to_pylist()}


def test_all_come_from_a_bad_server_that_is_left_alone_when_it_asks(shared_data, files, tmp_path):
    images = ImagesConfig(
        fetch=ImageFetchConfig(allow_loopback=True, requests_per_second=180, burst=8, connections_per_host=CONNECTIONS)
    )
    library = PictureLibrary(tmp_path / "pictures")
    with serve_troubled(shared_data, BAD_WEB, tmp_path / "requests.jsonl") as server:
        urls = {server.url(name): name for name in sorted(files)[::4]}
        candidates = pa.table({"url": list(urls)})
        first, second, third = (
            collect(images, CONTACT, candidates, library, retry=retry) for retry in ("", "transient", "all")
        )
        requests = server.requests()
    assert set(first.statuses) == {"ok", "cut", "http_404"}
    assert second.statuses == {"ok": first.statuses["cut"]}
    assert third.statuses == {"ok": first.statuses["http_404"]}
    came = {row["url"]: row["sha256"] for row in library.last_attempts().to_pylist()}
    assert came == {url: hashlib.sha256(files[name]).hexdigest() for url, name in urls.items()}
    for row in library.served.read().to_pylist():
        assert hashlib.sha256(row["bytes"]).hexdigest() == row["sha256"]
    assert {429, 503, 404} < {request.status for request in requests}
    assert find_impatient(requests) == []
    assert max(request.num_open for request in requests) == CONNECTIONS
    assert len(requests) == library.attempts.read(["url"]).num_rows  # none that the ledger does not tell of
    [agent] = {request.user_agent for request in requests}
    assert CONTACT in agent


def test_pictures_of_all_modes_decode(decoded):
    assert len(decoded) == 1586
    assert {row["status"] for row in decoded.values()} == {"ok"}
    modes = Counter((row["format"], row["mode"]) for row in decoded.values())
    png = {("png", mode): count for mode, count in {"L": 5, "LA": 12, "P": 558, "RGB": 82, "RGBA": 289}.items()}
    assert modes == {("jpeg", "RGB"): 640, **png}


def test_those_that_look_the_same_are_found_and_no_others(decoded):
    names, rows = list(decoded), decoded.values()
    hashes = np.array([int(row["phash"], 16) for row in rows], np.uint64)
    colours = np.stack([np.frombuffer(row["colours"], np.uint8) for row in rows])
    found = {frozenset(Path(names[place]).stem for place in pair) for pair in find_near_duplicates(hashes, 6, colours)}
    assert found == {  # each looked at; the flags are both of France
        frozenset({"bl", "gp"}),
        frozenset({"delaware", "new-jersey"}),
        frozenset({"kansas", "oklahoma"}),
        frozenset({"github", "github-api"}),
        frozenset({"swift-vapor", "vapor"}),
    }
    assert len(find_near_duplicates(hashes, 6)) == 168  # by the hash alone


def write_config(shared_data: Path, folder: Path) -> list[str]:
    """A config of the entities that are on real pictures, with their names only; gives their MIDs."""
    mids = sorted({picture.mid.replace("m.", "/m/") for picture in read_table(shared_data) if picture.mid})
    with gzip.open(shared_data / "kg" / "freebase" / "entity2text.txt.gz", "rt", encoding="utf-8") as names:
        (folder / "names.txt").write_text("".join(line for line in names if line.partition("\t")[0] in mids))
    (folder / "real.toml").write_text(
        f"""
        graph.name = "real"
        sources = [{{kind = "freebase", paths = ["names.txt"]}}]
        fetch.contact = "{CONTACT}"
        embeddings = {{kind = "hashing", rows_per_shard = 128}}
        images.url_lists = ["pictures.tsv"]
        images.fetch = {{allow_loopback = true, requests_per_second = 10_000, burst = 50}}
        """
    )
    return mids


def test_builds_of_real_pictures_that_are_killed_end_like_one_that_is_not(shared_data, files, tmp_path):
    mids = write_config(shared_data, tmp_path)
    names = sorted(files)[::5]
    moments = (
        Moment("collect", "pictures/image_bytes/part-*.parquet"),
        Moment("embed", "vectors/*/part-*.parquet"),
    )
    outputs = {name: f"graph.output={tmp_path / name}" for name in ("alone", "killed")}
    configs = {name: read_config(tmp_path / "real.toml", [output]) for name, output in outputs.items()}
    with serve_troubled(shared_data, SLOW_WEB, tmp_path / "alone.jsonl") as server:
        # Whose pictures they are does not matter here.
        lines = [f"{mids[number % len(mids)]}\t{server.url(name)}\n" for number, name in enumerate(names)]
        (tmp_path / "pictures.tsv").write_text("".join(lines))
        stages_of(configs["alone"], "images")
        port = server.port
    with serve_troubled(shared_data, SLOW_WEB, tmp_path / "killed.jsonl", port=port) as server:
        command = [sys.executable, "-m", "mmkg", "--quiet", "build", str(tmp_path / "real.toml"), "--until", "images"]
        command += ["--set", outputs["killed"]]
        root = configs["killed"].graph.folder
        for moment in moments:
            assert kill_at(moment, command, root, server), f"{moment} came too late"
            check_whole(configs["killed"])
        for what, is_same in compare_builds(configs["killed"], configs["alone"]).items():
            assert is_same, what
        asked = Counter(request.path for request in server.requests())
    assert len(asked) == len(names)
    assert asked.total() <= len(names) + ATTEMPTS_PER_SHARD
