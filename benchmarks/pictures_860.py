"""Real pictures through everything: matched, fetched from a server as bad as the web, decoded, embedded, built, killed.

    python benchmarks/pictures_860.py ../shared/data --work /tmp/pictures [--part fetch] [--embedder hashing]

The pictures are those of the shared data: 860 with a table of what is on them, and 750 logos. The graph is FB15k-237
with DB15K and YAGO15K (``examples/mmkb/pictures.toml``). Parts: match, fetch, decode, embed, duplicates, build, kill.
Everything is asked on loopback. What was built is kept in the work folder, so that parts can be run one after the
other. Ends with status 1 if anything is not as it should be.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from measure import Ratio, machine

from mmkg.cli.output import print_table
from mmkg.config import Config, DecodeConfig, EmbeddingsConfig, ImageFetchConfig, ImagesConfig, read_config
from mmkg.embeddings import encode_pictures, open_embedder, vector_archive
from mmkg.images.collect import collect
from mmkg.images.decode import Decoder
from mmkg.images.duplicates import find_near_duplicates
from mmkg.images.library import PictureLibrary
from mmkg.images.recorder import ATTEMPTS_PER_SHARD
from mmkg.images.rot import make_rot_report
from tests.images.killed_builds import MOMENTS, check_whole, compare_builds, kill_at, stages_of
from tests.images.real_pictures import EXAMPLE, FOLDERS, list_files, read_matches, read_table, score_matches
from tests.servers.troubled import Asked, TroubledServer, Troubles, find_impatient, serve_troubled

CONTACT = "keeper@graph.example"
BAD_WEB = Troubles(requests_per_second=100, late=0.05, cut=0.05, slow=0.05, busy=0.01)
SLOW_WEB = Troubles(slow=0.05, missing=0.03)  # of which each ask gives the same, so that a killed run can be compared
CONNECTIONS = 4
GRAPH_STAGES = ("read", "graph", "splits", "findings", "adjacency")


def check(what: str, fine: bool) -> None:
    """Print what was looked at, and stop the run if it is not so."""
    print(f"{'ok  ' if fine else 'FAIL'}  {what}", flush=True)
    if not fine:
        sys.exit(1)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where things are."""

    shared: Path
    work: Path
    embedder: tuple[str, ...]  # settings of [embeddings]

    @property
    def config(self) -> Path:
        """The example's config, with the shared data beside it."""
        path = self.work / EXAMPLE.name
        if not path.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            (self.work / "data").symlink_to(self.shared.resolve())
            path.write_bytes(EXAMPLE.read_bytes())
        return path

    def name_of(self, path: Path) -> str:
        """A picture's path below the shared data."""
        return path.relative_to(self.shared).as_posix()

    def read(self, settings: Sequence[str] = ()) -> Config:
        """The config with other settings."""
        return read_config(self.config, settings)

    def served_copy(self, name: str) -> Path:
        """A folder of links to all pictures, from which a server's may be removed."""
        root = self.work / name
        shutil.rmtree(root, ignore_errors=True)
        for path in list_files(self.shared):
            link = root / self.name_of(path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        return root


def mmkg(*arguments: str, quiet: bool = False) -> str:
    """The command line to its end; prints what it says and how long it took."""
    started = time.monotonic()
    command = [sys.executable, "-m", "mmkg", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    shown = " ".join(argument for argument in arguments if "=" not in argument and argument != "--set")
    print(f"$ mmkg {shown}  [exit {done.returncode}, {time.monotonic() - started:.1f} s]")
    if done.returncode:
        sys.exit(done.stdout)
    if not quiet:
        print("".join(f"    {line[:180]}\n" for line in done.stdout.splitlines()), end="", flush=True)
    return done.stdout


# --- match -----------------------------------------------------------------------------------------------------------


def match(place: Place) -> None:
    """Pictures of folders to entities of the graph, by mapping and by name, held against the table."""
    config = place.read()
    stages = stages_of(config, "candidates")
    [graph], [candidates] = stages["graph"], stages["candidates"]
    found = read_matches(config.images, graph.folder, candidates.folder, place.shared)
    pictures = read_table(place.shared)
    rows = []
    for folder in ["", *FOLDERS]:
        score = score_matches([picture for picture in pictures if picture.path.startswith(folder)], found)
        if score.pictures:
            rows.append([folder or "all", *dataclasses.astuple(score), score.precision, score.recall])
    print_table(["folder", "pictures", "known", "matched", "right", "right by graph", "precision", "recall"], rows)
    logos = sorted(Path(path).stem for path in found if "/logos/" in path)
    print(f"      {len(logos)} of 750 logos, on which there is no table: {' '.join(logos)}")
    homonyms = [picture for picture in pictures if picture.is_homonym]
    left = sum(picture.path not in found for picture in homonyms)
    check(f"{left} of {len(homonyms)} homonyms are left unmatched", left == len(homonyms) == 10)
    score = score_matches(pictures, found)
    check(
        "nothing is matched that neither table nor graph bears out", score.matched == score.right + score.right_by_graph
    )


# --- fetch -----------------------------------------------------------------------------------------------------------


def check_manners(requests: Sequence[Asked]) -> None:
    """What the server says about who asked."""
    statuses = Counter(row.status for row in requests)
    most_open = max(row.num_open for row in requests)
    print(f"      the server saw {len(requests):,} requests: {dict(sorted(statuses.items()))}")
    check("no request before Retry-After was over", not find_impatient(requests))
    check(f"never more than {CONNECTIONS} requests at once (was {most_open})", most_open <= CONNECTIONS)
    agents = {row.user_agent for row in requests}
    check(f"every one with the contact: {' | '.join(agents)}", len(agents) == 1 and CONTACT in agents.pop())


def fetch(place: Place) -> None:
    """All pictures from a server with a limit, 404, 503, cut and slow answers, until all are here; then link rot."""
    images = ImagesConfig(
        fetch=ImageFetchConfig(allow_loopback=True, requests_per_second=120, burst=8, connections_per_host=CONNECTIONS)
    )
    root, log = place.served_copy("served"), place.work / "requests.jsonl"
    digests = {place.name_of(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in list_files(place.shared)}
    shutil.rmtree(place.work / "library", ignore_errors=True)
    library = PictureLibrary(place.work / "library")
    with serve_troubled(root, BAD_WEB, log) as server:
        urls = {server.url(name): name for name in digests}
        candidates = pa.table({"url": list(urls)})
        troubles = Counter(BAD_WEB.of(url.removeprefix(server.url("")[:-1]))[0] or "none" for url in urls)
        print(f"      {len(urls):,} files, by their trouble: {dict(troubles)}; at most 100 requests/s, else 429")
        rows, retry = [], ""
        while len(rows) < 6:
            report = collect(images, CONTACT, candidates, library, retry=retry)  # type: ignore[arg-type]
            counts = ", ".join(f"{count:,} {status}" for status, count in sorted(report.statuses.items()))
            here = sum(kind == "ok" for kind in library.last_attempts()["kind"].to_pylist())
            rows.append(
                [len(rows) + 1, retry or "-", report.num_due, report.num_attempts, counts, here, report.seconds]
            )
            if here == len(urls):
                break
            retry = "transient" if not retry else "all"
        print_table(["run", "retry", "due", "attempts", "statuses", "here", "seconds"], rows)
        attempts = library.attempts.read(["status"])["status"].to_pylist()
        print(f"      ledger: {len(attempts):,} rows, {dict(Counter(attempts).most_common())}")
        newest = library.last_attempts().to_pylist()
        same = sum(row["sha256"] == digests[urls[row["url"]]] for row in newest)
        check(f"{same:,} of {len(urls):,} pictures are here, by the sha256 of their files", same == len(urls) == 1610)
        served = library.served.read()
        whole = sum(hashlib.sha256(row["bytes"]).hexdigest() == row["sha256"] for row in served.to_pylist())
        check(f"{whole:,} different contents are stored, each once", whole == len(set(digests.values())) == len(served))
        check_manners(server.requests())
        port = server.port
    gone = random.Random(0).sample(sorted(digests), 40)
    for name in gone:
        (root / name).unlink()
    with serve_troubled(root, Troubles(), log, port=port) as server:
        again = images.model_copy(update={"fetch": images.fetch.model_copy(update={"refresh_days": 0.0})})
        report = collect(again, CONTACT, candidates, library)
        print(f"      {len(gone)} files removed, all asked again: {report}")
        check("what is as it was is not sent again", report.statuses == {"unchanged": 1570, "http_404": 40})
        statuses = Counter(row.status for row in server.requests())
        check(f"the server answered {dict(statuses)}", statuses == {304: 1570, 404: 40})
    rot = make_rot_report(library).to_pylist()
    print_table([*list(rot[0])[:7], "statuses"], [[*list(row.values())[:7], row["statuses"]] for row in rot])
    check("link rot: 40 of 1,610 are gone", [(row["gone"], row["ok"]) for row in rot] == [(40, 1570)])
    resolved = set(library.resolve(list(urls))["status"].to_pylist())
    check("what is gone there is still here, and used", resolved == {"ok"})


# --- decode, embed, duplicates ---------------------------------------------------------------------------------------


def decode(place: Place) -> pa.Table:
    """All pictures, each content once; with the row's file names. Kept in the work folder."""
    names: dict[str, list[str]] = {}
    content: dict[str, bytes] = {}
    for path in list_files(place.shared):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        names.setdefault(digest, []).append(place.name_of(path))
        content[digest] = data
    started = time.perf_counter()
    with Decoder(DecodeConfig()) as decoder:
        rows = decoder.decode(content.items())
        workers = decoder.workers
    seconds = time.perf_counter() - started
    kinds = Counter(zip(*(rows[name].to_pylist() for name in ("format", "mode", "status")), strict=True))
    print_table(["format", "mode", "status", "pictures"], [[*kind, count] for kind, count in sorted(kinds.items())])
    size = sum(len(data) for data in content.values())
    print(
        f"      {rows.num_rows:,} different contents of {sum(map(len, names.values())):,} files, {size / 1e6:.1f} MB, "
        f"in {seconds:.1f} s by {workers} processes: {rows.num_rows / seconds:,.0f} pictures/s"
    )
    check("all modes decode", set(rows["status"].to_pylist()) == {"ok"})
    rows = rows.append_column("files", pa.array([names[sha256] for sha256 in rows["sha256"].to_pylist()]))
    pq.write_table(rows, place.work / "decoded.parquet")
    return rows


def decoded(place: Place) -> pa.Table:
    """What `decode` gives, from its file if it is there."""
    path = place.work / "decoded.parquet"
    return pq.read_table(path) if path.exists() else decode(place)


def embed(place: Place) -> None:
    """Rates of ViT-B-32 and of the small CLIP on the 860, the error of float16, and what the vectors weigh."""
    from embed_pictures import rate_of_decoding, rate_of_model

    rows = [row for row in decoded(place).to_pylist() if "/logos/" not in row["files"][0]]
    shown = [(row["sha256"], row["normalised"]) for row in rows]
    for model, name, passes, bare in (("ViT-B-32", "ViT-B-32, random weights", 1, 256), ("atlas", "atlas", 5, None)):
        config = EmbeddingsConfig(kind="clip", model=model, batch_size=32)
        embedder = open_embedder(config)
        rate_of_model(embedder, rate_of_decoding(embedder, shown[:64])[1], 32)  # warm
        rates: dict[str, list[float]] = {"decode": [], "model": [], "together": []}
        for turn in range(passes):
            decoding, prepared = rate_of_decoding(embedder, shown)
            rates["decode"].append(decoding)
            rates["model"].append(rate_of_model(embedder, prepared[:bare], 32))
            archive = vector_archive(place.work / "vectors" / str(turn), embedder.identity)
            shutil.rmtree(archive.folder, ignore_errors=True)
            report = encode_pictures(embedder, config, shown, archive)
            rates["together"].append(report.rows_per_second)
        error = archive.read(["error"])["error"].to_numpy()
        size = sum(path.stat().st_size for path in archive.parts())
        identity = embedder.identity
        print(
            f"      {name}: {identity.dimension} numbers, {identity.precision}, {passes} passes; the last one: {report}"
        )
        middle = {stage: statistics.median(values) for stage, values in rates.items()}
        print_table(["stage", "pictures/s"], list(middle.items()))
        print(
            Ratio(
                work=f"{name}, {len(shown):,} pictures",
                peer="1/(1/decode + 1/model)",
                ours=middle["together"],
                theirs=1 / (1 / middle["decode"] + 1 / middle["model"]),
                unit="img/s",
                target=1.0,
                more_is_better=True,
            )
        )
        print(
            f"      float16: no cosine is wrong by more than {error.max():.1e}, {error.mean():.1e} in the mean; "
            f"{size:,} bytes for {len(error):,} vectors"
        )
        check("every picture has a vector", report.embedded == len(shown) and not report.failed)


def duplicates(place: Place) -> None:
    """Pictures that look the same, by hash and colours, with a sheet of them to look at."""
    from mmkg.builds.pictures import draw_sheet

    rows = decoded(place)
    hashes = np.array([int(text, 16) for text in rows["phash"].to_pylist()], np.uint64)
    colours = np.stack([np.frombuffer(row, np.uint8) for row in rows["colours"].to_pylist()])
    same_hash = find_near_duplicates(hashes, 6)
    pairs = find_near_duplicates(hashes, 6, colours)
    files, shown = rows["files"].to_pylist(), rows["normalised"].to_pylist()
    copies = [names for names in files if len(names) > 1]
    print(f"      {len(copies)} contents that several files have:")
    for names in copies:
        print(f"        {'  '.join(names)}")
    print(f"      {len(same_hash)} pairs within 6 bits; {len(pairs)} of them with the same colours too:")
    for left, right in pairs:
        bits = int(hashes[left] ^ hashes[right]).bit_count()
        print(f"        {bits} bits  {files[left][0]}  {files[right][0]}")
    sheet = [(f"{n}: {Path(files[i][0]).stem}", shown[i]) for n, pair in enumerate(pairs) for i in pair]
    draw_sheet(sheet, place.work / "duplicates.png")
    print(f"      drawn to {place.work / 'duplicates.png'}, pairs side by side")
    brute = sum(int(a ^ b).bit_count() <= 6 for n, a in enumerate(hashes.tolist()) for b in hashes[n + 1 :].tolist())
    check("comparing each with each finds as many within 6 bits", brute == len(same_hash))


# --- build -----------------------------------------------------------------------------------------------------------


def write_list(path: Path, server: TroubledServer, pictures: Sequence[tuple[str, str]]) -> str:
    """A list as MMKB has them, of MID and file; gives the setting that names it."""
    path.write_text("".join(f"{mid}\t{server.url(name)}\n" for mid, name in pictures))
    return f'images.url_lists=["{path}"]'


def fetch_settings(requests_per_second: int) -> list[str]:
    """How a build asks a server of this machine."""
    settings = {"allow_loopback": "true", "requests_per_second": requests_per_second, "burst": 8}
    settings |= {"connections_per_host": CONNECTIONS}
    return [f"fetch.contact={CONTACT}", *(f"images.fetch.{name}={value}" for name, value in settings.items())]


def as_options(settings: Sequence[str]) -> list[str]:
    """Settings as the command line has them."""
    return [part for setting in settings for part in ("--set", setting)]


def build(place: Place) -> None:
    """The whole build by the command line, from folders and from a list of addresses; then questions about pictures."""
    root = place.served_copy("served")
    known = [(picture.mid, picture.path) for picture in read_table(place.shared) if picture.mid]
    with serve_troubled(root, BAD_WEB, place.work / "requests.jsonl") as server:
        listed = write_list(place.work / "pictures.tsv", server, known)
        settings = [*fetch_settings(120), listed, *place.embedder]
        config = place.read(settings)
        shutil.rmtree(config.graph.folder / "pictures", ignore_errors=True)
        mmkg("--quiet", "build", str(place.config), *as_options(settings))
        folder = str(config.graph.folder)
        mmkg("images", "status", folder)
        mmkg("--quiet", "images", "retry", str(place.config), "--transient", *as_options(settings))
        mmkg("--quiet", "images", "retry", str(place.config), "--all", *as_options(settings))
        check_manners(server.requests())
        mmkg("--quiet", "build", str(place.config), *as_options(settings))
        last = mmkg("build", str(place.config), *as_options(settings), quiet=True)
        check("built again: nothing has changed", "nothing has changed" in last)
    mmkg("images", "status", folder)
    mmkg("images", "rot", folder)
    mmkg("images", "report", folder, "--output", str(place.work / "pictures.html"))
    counts = "MATCH (e:Entity)-[h:HAS_IMAGE]->(i:Image) RETURN count(*) AS edges, count(DISTINCT e) AS entities, "
    asked = json.loads(mmkg("query", folder, counts + "count(DISTINCT i) AS pictures", "--format", "json"))
    france = "MATCH (e:Entity {label: 'France'})-[h:HAS_IMAGE]->(i:Image) RETURN i.url, h.rank, i.licence"
    mmkg("query", folder, france)
    images = pq.read_table(config.graph.folder / "current" / "images")
    kept = images.filter(pc.equal(images["status"], "ok"))
    told = {"edges": kept.num_rows, "entities": len(kept["entity_index"].unique())}
    told |= {"pictures": len(kept["sha256"].unique())}
    check(f"store and table say the same: {told}", asked == [told])
    flag = str(place.shared / "images" / "country_flags" / "fr.png")
    found = json.loads(mmkg("search", folder, flag, "--json", "-k", "3", quiet=True))["pictures"]
    print_table(["picture of", "cosine", "url"], [[hit["labels"], hit["score"], hit["url"]] for hit in found])
    check("the flag of France finds France", "France" in found[0]["labels"])


# --- kill ------------------------------------------------------------------------------------------------------------


def kill(place: Place) -> None:
    """The stages of pictures, killed again and again and run to the end, against an undisturbed build."""
    whole = place.read()
    [entities] = stages_of(whole, "adjacency")["graph"]
    root = place.served_copy("served-slowly")
    graph = pq.read_table(entities.folder / "entities", columns=["entity_id"])
    mids = [iri.rpartition("/")[2] for iri in graph["entity_id"].to_pylist() if "/ns/m." in iri]
    known = {picture.path: picture.mid for picture in read_table(place.shared) if picture.mid}
    files = [place.name_of(path) for path in list_files(place.shared)]
    # A picture without an entity of its own goes to any: what counts here is how many there are.
    listed = [(known.get(name) or mids[number], name) for number, name in enumerate(files)]
    configs = {}
    with serve_troubled(root, SLOW_WEB, place.work / "undisturbed.jsonl") as server:
        setting = write_list(place.work / "all.tsv", server, listed)
        settings = [*fetch_settings(250), setting, "images.folders=[]"]
        settings += [*place.embedder, "embeddings.rows_per_shard=2048"]
        for name in ("undisturbed", "killed"):
            configs[name] = place.read([*settings, f"graph.output={place.work / name}"])
            copy_graph(whole.graph.folder, configs[name].graph.folder)
        started = time.monotonic()
        options = as_options([*settings, f"graph.output={place.work / 'undisturbed'}"])
        mmkg("build", str(place.config), "--until", "images", *options, quiet=True)
        alone, port = len(server.requests()), server.port
        print(f"      undisturbed: {alone:,} requests for {len(files):,} addresses, {time.monotonic() - started:.0f} s")
    with serve_troubled(root, SLOW_WEB, place.work / "killed.jsonl", port=port) as server:
        options = as_options([*settings, f"graph.output={place.work / 'killed'}"])
        command = [sys.executable, "-m", "mmkg", "--quiet", "build", str(place.config), "--until", "images", *options]
        rows = []
        for moment in MOMENTS:
            was_running = kill_at(moment, command, configs["killed"].graph.folder, server)
            what = moment.new or f"{moment.requests} requests"
            requests = len(server.requests())
            state = check_whole(configs["killed"])
            rows.append([moment.stage, what, "yes" if was_running else "NO", requests, state])
        print_table(["killed in", "when there was new", "was running", "requests so far", "whole on disk"], rows)
        kills = sum(row[2] == "yes" for row in rows)
        mmkg("build", str(place.config), "--until", "images", *options, quiet=True)
        check(f"{kills} kills", kills >= 8)
        asked = Counter(row.path for row in server.requests())
        again = sum(asked.values()) - len(asked)
        of_collect = sum(row[0] == "collect" and row[2] == "yes" for row in rows)
        limit = len(files) + of_collect * ATTEMPTS_PER_SHARD
        check(
            f"{sum(asked.values()):,} requests, {again:,} of them again: at most {len(files):,} addresses + "
            f"{of_collect} kills x {ATTEMPTS_PER_SHARD} = {limit:,}",
            sum(asked.values()) <= limit,
        )
        check("each address was asked", len(asked) == len(files))
        for what, is_same in compare_builds(configs["killed"], configs["undisturbed"]).items():
            check(what, is_same)
        check("the comparison asked nobody", sum(asked.values()) == len(server.requests()))
    left = [path for path in configs["killed"].graph.folder.rglob("*.partial") if path.parent.name != "stages"]
    print(f"      left half-written, and never read: {[path.name for path in left] or 'nothing'}")


def copy_graph(source: Path, target: Path) -> None:
    """The stages before pictures as hard links, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    for name in GRAPH_STAGES:
        shutil.copytree(source / "stages" / name, target / "stages" / name, copy_function=os.link)
    if (source / "dump_digests").exists():
        shutil.copytree(source / "dump_digests", target / "dump_digests", copy_function=os.link)


PARTS = {part.__name__: part for part in (match, fetch, decode, embed, duplicates, build, kill)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder of the shared data")
    parser.add_argument("--work", type=Path, required=True, help="what is built is kept here")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--embedder", choices=["hashing", "atlas"], default="hashing", help="of the builds")
    options = parser.parse_args()
    settings = {"hashing": ("embeddings.kind=hashing",), "atlas": ("embeddings.kind=clip", "embeddings.model=atlas")}
    place = Place(options.shared.resolve(), options.work.resolve(), settings[options.embedder])
    place.work.mkdir(parents=True, exist_ok=True)
    print(machine())
    for name in options.part or PARTS:
        print(f"--- {name}: {PARTS[name].__doc__}", flush=True)
        PARTS[name](place)


if __name__ == "__main__":
    main()
