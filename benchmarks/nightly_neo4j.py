"""A graph in a live Neo4j through bad nights: both ways in, lines gone, rollback, SIGKILLs, a reader all along.

    python benchmarks/nightly_neo4j.py examples/mmkb/mmkb.toml --kills 10

Starts a real server, builds the graph of a config, loads it live and by ``neo4j-admin`` files, and compares the digests
of the contents with each other and with the embedded store's. Then it builds the same input less 1 % of its lines,
looks for the deletions in Cypher, rolls back, and kills loader or server at random moments while a reader asks all the
time. Ends with status 1 if anything is not as it should be.
"""

import argparse
import gzip
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from measure import machine

from mmkg.builds import open_build
from mmkg.config import Config, StoreConfig, read_config
from mmkg.errors import MmkgError
from mmkg.pipeline import list_dumps
from mmkg.store import load_store, open_embedded
from mmkg.store.content import Content, ContentDigest, digest_embedded, read_content
from mmkg.store.neo4j import open_driver, open_neo4j
from mmkg.store.neo4j.read_back import read_back
from tests.servers.neo4j import PASSWORD, Neo4jServer, running_neo4j

ENVIRONMENT = {**os.environ, "NEO4J_PASSWORD": PASSWORD}
SIGNATURE = "MATCH (h:Entity)-[r]->(t:Entity) RETURN type(r) AS relation, count(*) AS facts, count(DISTINCT h) AS heads"


def check(what: str, fine: bool) -> None:
    """Print what was looked at, and stop the run if it is not so."""
    print(f"{'ok  ' if fine else 'FAIL'}  {what}", flush=True)
    if not fine:
        sys.exit(1)


def mmkg(*arguments: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "mmkg", *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*arguments: str) -> str:
    """The command line to its end; prints its last lines and how long it took."""
    started = time.monotonic()
    process = mmkg(*arguments)
    output, _ = process.communicate()
    lines = output.strip().splitlines()
    print(f"$ mmkg {' '.join(arguments[:3])} …  [exit {process.returncode}, {time.monotonic() - started:.1f} s]")
    print("".join(f"    {line}\n" for line in lines[-3:]), end="", flush=True)
    if process.returncode:
        sys.exit(output)
    return output


def digest_of(store: StoreConfig, content: Content) -> ContentDigest:
    """The digest of what the server holds, all of it read; anything that a content cannot hold ends the run."""
    with open_driver(store) as driver, tempfile.TemporaryDirectory() as folder:
        found = read_back(driver, store.database, content.model, Path(folder))
        check("nothing foreign in the server's store", not found.foreign)
        return found.content.digest


def load_by_files(server: Neo4jServer, config: Path, root: Path, settings: Sequence[str], folder: Path) -> None:
    """Export the served version, import it into the stopped server in place of what it holds, and finish the load."""
    server.stop()
    os.environ.update(server.admin_environment())
    ENVIRONMENT.update(server.admin_environment())
    options = ["--neo4j-admin", shlex.join(server.admin_command()), "--run", "--overwrite"]
    run("export", str(root), "--format", "neo4j", "--output", str(folder), *options)
    server.start()
    run("build", str(config), *settings)


def thin_out(config: Config, folder: Path, share: float) -> list[str]:
    """Copy the dumps of the sources without a share of their lines; gives the --set options that name the copies."""
    rng = random.Random(0)
    settings = []
    for number, source in enumerate(config.sources):
        copies = []
        for dump in list_dumps(config.model_copy(update={"sources": (source,), "links": ()})):
            copy = folder / str(number) / dump.path.name.removesuffix(".gz")
            copy.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(dump.path) as lines, copy.open("wb") as kept:
                kept.writelines(line for line in lines if rng.random() >= share)
            copies.append(str(copy))
        settings.append(f"sources.{number}.paths={json.dumps(copies)}")
    return settings


class Reader(threading.Thread):
    """Asks for the whole graph's signature without pause and keeps a log of what it saw."""

    def __init__(self, store: StoreConfig, known: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.known = known
        self.seen: Counter[str] = Counter()
        self.changes: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        """Ask until told to stop; a server that is down is a pause, not an answer."""
        while not self.stopping.is_set():
            try:
                with open_neo4j(self.store) as store:
                    while not self.stopping.is_set():
                        self._note(self.known.get(signature(store.query(SIGNATURE)), "A MIXTURE"))
            except MmkgError:
                self._note("no answer")
                time.sleep(0.2)

    def _note(self, what: str) -> None:
        self.seen[what] += 1
        if not self.changes or self.changes[-1] != what:
            self.changes.append(what)


def signature(answer: object) -> str:
    """One text for what a reader saw."""
    return str(sorted(map(tuple, (row.values() for row in answer.to_pylist()))))  # type: ignore[attr-defined]


def kill_loads(
    server: Neo4jServer, root: Path, versions: Sequence[str], seconds: float, kills: int, reader: Reader
) -> None:
    """SIGKILL a loader, or every third time the server, at random moments of a switch between two versions."""
    rng = random.Random(1)
    target = done = 0
    while done < kills:
        loader = mmkg("rollback", str(root), "--to", versions[target])
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        if loader.poll() is not None:  # it was faster: that was a switch, and the next one goes back
            target = 1 - target
            continue
        done += 1
        whom = "server" if done % 3 == 0 else "loader"
        if whom == "server":
            server.kill()
        loader.send_signal(signal.SIGKILL)
        loader.communicate()
        if whom == "server":
            server.start()
        print(f"      kill {done}: {whom}; reader so far: {dict(reader.seen)}", flush=True)
        if done % 2 == 0:
            run("rollback", str(root), "--to", versions[target])
            target = 1 - target


def deletions(before: Content, after: Content) -> list[tuple[str, str, str]]:
    """Some facts (head, type, tail) of the old content that the new one has not."""
    gone = []
    with duckdb.connect() as connection:
        for relation, file in before.edges.items():
            other = after.edges.get(relation)
            query = f'SELECT o."from", o."to" FROM read_parquet(\'{file}\') o'
            if other is not None:
                query += f' ANTI JOIN read_parquet(\'{other}\') n ON o."from" = n."from" AND o."to" = n."to"'
            rows = connection.execute(f"{query} LIMIT 20").fetchall()
            gone += [(head, relation, tail) for head, tail in rows]
    return gone


def look_for(store: StoreConfig, facts: Sequence[tuple[str, str, str]]) -> int:
    """How many of some facts (head, type, tail) the server answers for in Cypher."""
    found = 0
    with open_neo4j(store) as reading:
        for head, relation, tail in facts:
            pattern = f"(:Entity {{entity_id: $head}})-[r:`{relation}`]->(:Entity {{entity_id: $tail}})"
            answer = reading.query(f"MATCH {pattern} RETURN count(r) AS found", {"head": head, "tail": tail})
            found += answer["found"][0].as_py()
    return found


def load_both_ways(server: Neo4jServer, path: Path, config: Config, settings: Sequence[str], work: Path) -> Content:
    """Load live, then by files; the digests of both, and of an embedded store, must be that of the tables."""
    run("build", str(path), *settings)
    root, store = config.graph.folder, config.store
    folder = open_build(root).folder
    content = read_content(folder / "store")
    wanted = content.digest
    print(f"      {wanted.num_nodes:,} entities, {wanted.num_edges:,} facts, content digest {wanted.total}")
    check("live load: content digest of the server is the tables'", digest_of(store, content) == wanted)
    same = StoreConfig(**store.model_dump(include={"attributes", "min_attribute_share", "max_attributes"}))
    load_store(folder, work / "embedded", same, config.source_names)
    with open_embedded(work / "embedded") as embedded:
        check("the embedded store's content digest is the same", digest_embedded(embedded) == wanted)
    check("built again: nothing has changed", "nothing has changed" in run("build", str(path), *settings))
    load_by_files(server, path, root, settings, work / "files")
    check("import files: content digest of the server is the same", digest_of(store, content) == wanted)
    return content


def lose_lines(path: Path, config: Config, settings: Sequence[str], share: float, work: Path, old: Content) -> str:
    """Build the same input less a share of its lines; what is gone must be gone in Cypher. Gives what a reader sees."""
    root, store = config.graph.folder, config.store
    fewer = [part for setting in thin_out(config, work / "dumps", share) for part in ("--set", setting)]
    run("build", str(path), *settings, *fewer)
    content = read_content(open_build(root).folder / "store")
    check("another content is served", content.digest != old.digest)
    check("its content digest is the server's", digest_of(store, content) == content.digest)
    gone = deletions(old, content)
    left = look_for(store, gone)
    check(f"{len(gone):,} of the deleted facts looked for in Cypher, {left} found", left == 0 and len(gone) > 0)
    with open_neo4j(store) as reading:
        return signature(reading.query(SIGNATURE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--lost", type=float, default=0.01, help="share of the lines that the second input lacks")
    options = parser.parse_args()
    print(machine())
    os.environ["NEO4J_PASSWORD"] = PASSWORD
    with tempfile.TemporaryDirectory() as scratch, running_neo4j(Path(scratch) / "neo4j", heap="2g") as server:
        work = Path(scratch)
        settings = ["--set", f"graph.output={work}/builds", "--set", f"store.uri={server.uri}"]
        config = read_config(options.config, settings[1::2])
        root, store = config.graph.folder, config.store
        content = load_both_ways(server, options.config, config, settings, work)
        first = open_build(root).folder.name
        new_signature = lose_lines(options.config, config, settings, options.lost, work, content)
        second = open_build(root).folder.name

        started = time.monotonic()
        run("rollback", str(root))
        seconds = time.monotonic() - started
        check("rolled back: content digest of the first version", digest_of(store, content) == content.digest)
        with open_neo4j(store) as reading:
            old_signature = signature(reading.query(SIGNATURE))
        reader = Reader(store, {old_signature: "old", new_signature: "new"})
        reader.start()
        kill_loads(server, root, [second, first], seconds, options.kills, reader)
        run("rollback", str(root), "--to", second)
        run("rollback", str(root), "--to", first)
        reader.stopping.set()
        reader.join(60)
        print(f"      reader: {sum(reader.seen.values()):,} questions, {dict(reader.seen)}: {' '.join(reader.changes)}")
        check("the reader saw old or new only", reader.seen["A MIXTURE"] == 0 and reader.seen["new"] > 0)
        check("after all kills: content digest of the first version", digest_of(store, content) == content.digest)


if __name__ == "__main__":
    main()
