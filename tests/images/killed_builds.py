"""Builds that are killed at chosen moments, and what must be the same afterwards as without the kills."""

import dataclasses
import hashlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg import pipeline
from mmkg.builds.versions import PICTURES_FOLDER, VECTORS_FOLDER
from mmkg.config import Config
from mmkg.images.library import PictureLibrary
from mmkg.shards import Archive, StageResult, check_shards
from tests.servers.troubled import TroubledServer

Stages = Mapping[str, Sequence[StageResult]]


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a build is killed: so long after something is there that was not when it began."""

    stage: str
    new: str = ""  # a pattern of paths below the graph's folder ...
    requests: int = 0  # ... or how many more the server has seen
    delay_seconds: float = 0.0


MOMENTS = (
    Moment("collect", requests=60),
    Moment("collect", requests=400),
    Moment("collect", "pictures/image_bytes/part-*.parquet"),  # bytes are there, their attempts are not
    Moment("collect", "pictures/image_attempts/part-*.partial"),
    Moment("decode", "stages/pictures/*.partial", delay_seconds=0.5),
    Moment("decode", "stages/pictures/*[0-9a-f]", delay_seconds=0.1),
    Moment("embed", "stages/vectors/*.partial"),
    Moment("embed", "vectors/*/part-*.parquet"),
    Moment("embed", "vectors/*/part-*.partial"),
    Moment("judge", "stages/images/*.partial"),
)


def kill_at(moment: Moment, command: Sequence[str], root: Path, server: TroubledServer) -> bool:
    """Start a build and SIGKILL it at a moment.

    Args:
        moment: when.
        command: starts the build.
        root: the graph's folder.
        server: whose requests are counted.

    Returns:
        Whether it was still running then.
    """
    before = set(root.glob(moment.new)) if moment.new else set()
    asked = server.num_requests()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if moment.new:
                has_come = bool(set(root.glob(moment.new)) - before)
            else:
                has_come = server.num_requests() >= asked + moment.requests
            if has_come:
                time.sleep(moment.delay_seconds)
                was_running = process.poll() is None
                process.send_signal(signal.SIGKILL)
                return was_running
            time.sleep(0.002)
    return False


def check_whole(config: Config) -> str:
    """Read everything that has the name of something whole, and say how much there is.

    Raises:
        AssertionError: bytes are not those of their digest, or an attempt names bytes that are not there.
        ShardError: something is half-written.
    """
    root = config.graph.folder
    library = PictureLibrary(root / PICTURES_FOLDER)
    contents = library.served.read().to_pylist()
    assert all(hashlib.sha256(row["bytes"]).hexdigest() == row["sha256"] for row in contents)
    named = {sha256 for sha256 in library.attempts.read()["sha256"].to_pylist() if sha256}
    assert named <= {row["sha256"] for row in contents}
    vectors = 0
    for folder in (root / VECTORS_FOLDER).glob("*"):
        if parts := sorted(folder.glob("part-*.parquet")):
            vectors += Archive(folder, pq.read_schema(parts[0]), "content").read().num_rows
    stages = [
        path.parent
        for name in ("candidates", "pictures", "vectors", "images")
        for path in (root / "stages" / name).glob("*[0-9a-f]/manifest.json")
    ]
    for stage in stages:
        check_shards(stage, content=True)
    return f"{len(contents):,} pictures, {vectors:,} vectors, {len(stages)} stages"


def stages_of(config: Config, until: str) -> dict[str, list[StageResult]]:
    """The stages of a build in this process, by name; what is there is not done again."""
    found: dict[str, list[StageResult]] = {}
    for result in pipeline.build(config, until=until).results:
        found.setdefault(result.stage.name, []).append(result)
    return found


def compare_builds(ours: Config, theirs: Config) -> dict[str, bool]:
    """What of two builds with the same candidates must be the same, and whether it is.

    Which pictures came together is a matter of chance, so parts of what was fetched and decoded may be cut otherwise:
    of these the rows are compared, of everything else the bytes.
    """
    done, other = (stages_of(config, "images") for config in (ours, theirs))
    same = {}
    for name in ("candidates", "vectors", "images"):
        [one], [two] = done[name], other[name]
        same[f"{name}: the same files, byte for byte"] = (
            check_shards(one.folder).content() == check_shards(two.folder).content()
        )
    decoded = [_rows(stages["pictures"], "pictures") for stages in (done, other)]
    parts = f"{len(done['pictures'])} and {len(other['pictures'])} parts"
    same[f"pictures: the same {len(decoded[0]):,} rows by sha256, in {parts}"] = decoded[0] == decoded[1]
    libraries = [PictureLibrary(config.graph.folder / PICTURES_FOLDER) for config in (ours, theirs)]
    served = [library.served.read().sort_by("sha256").to_pylist() for library in libraries]
    same[f"image_bytes: the same {len(served[0]):,} rows by sha256, each once"] = served[0] == served[1]
    columns = ["url", "status", "kind", "sha256"]
    newest = [library.last_attempts().select(columns).to_pylist() for library in libraries]
    same[f"image_attempts: the same newest row of {len(newest[0]):,} addresses"] = newest[0] == newest[1]
    return same


def _rows(stages: Sequence[StageResult], name: str) -> list[dict[str, Any]]:
    tables = [pq.read_table(stage.folder / name) for stage in stages]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).sort_by("sha256").to_pylist()
    return rows
