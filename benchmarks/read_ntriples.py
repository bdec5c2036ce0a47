"""N-Triples (gzip) to shards, rejects counted, beside rdflib and bare pyoxigraph on the same lines.

The dump is like Freebase's: tabs between the terms, 55 % IRIs, 25 % literals with a language, 20 % plain or typed ones,
some escapes, one bad line in 100,000. rdflib reads a slice of it, since it would take minutes; all figures are rates.

    python benchmarks/read_ntriples.py [--quick] [--lines 3000000]
"""

import argparse
import gzip
import io
import itertools
import multiprocessing
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyoxigraph as ox
import rdflib
from measure import Ratio, machine, median_seconds

from mmkg.config import SourceConfig
from mmkg.sources import read_dump

NS = "http://rdf.freebase.com/ns/"
WORDS = [
    "river",
    "city",
    "album",
    "the",
    "of",
    "and",
    "recorded",
    "born",
    "season",
    "première",
    "Straße",
    "東京",
    "музыка",
]
DOMAINS = ["film", "music", "people", "location", "sports"]
TYPES = ["topic", "person", "work", "event"]
NAMES = ["name", "date", "part_of", "member", "award"]
RELATIONS = [".".join(parts) for parts in itertools.product(DOMAINS, TYPES, NAMES)]
LANGUAGES = ["en", "de", "fr", "ja", "ru", "pt-br", "zh-hant", "es-419"]


def generate_lines(count: int, *, random_seed: int = 0) -> Iterator[str]:
    """Lines of a dump like Freebase's, a few of them bad."""
    chance = random.Random(random_seed)
    for number in range(count):
        head = f"<{NS}m.0{number // 8:06x}>\t<{NS}{chance.choice(RELATIONS)}>\t"
        kind = chance.random()
        words = " ".join(chance.choices(WORDS, k=chance.randint(1, 14)))
        if number % 100_000 == 99_999:
            yield f'{head}"never closed {words}\t.\n'
        elif kind < 0.55:
            yield f"{head}<{NS}m.0{chance.randrange(count):06x}>\t.\n"
        elif kind < 0.80:
            escape = '\\n\\"quoted\\"' if chance.random() < 0.1 else ""
            yield f'{head}"{words}{escape}"@{chance.choice(LANGUAGES)}\t.\n'
        elif kind < 0.90:
            yield f'{head}"{chance.random():.6f}"^^<http://www.w3.org/2001/XMLSchema#double>\t.\n'
        else:
            yield f'{head}"{words}"\t.\n'


def write_dump(path: Path, count: int) -> None:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        lines = generate_lines(count)
        while batch := list(itertools.islice(lines, 50_000)):
            file.write("".join(batch))


def good_lines(path: Path, count: int) -> bytes:
    """The first lines without the bad ones: the peers stop at those, or lose their neighbours."""
    with gzip.open(path, "rb") as file:
        lines = (line for line in file if b"never closed" not in line)
        return b"".join(itertools.islice(lines, count))


def seconds_of_ours(dump: Path, workers: int, repeats: int) -> float:
    source = SourceConfig(kind="freebase", paths=(str(dump),))

    def read() -> None:
        with tempfile.TemporaryDirectory(dir=dump.parent) as folder:
            counts = read_dump(source, dump, dump.name, Path(folder), workers=workers)
            assert counts.rejects == counts.lines // 100_000, counts

    return median_seconds(read, repeats=repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300,000 lines, once")
    parser.add_argument("--lines", type=int, default=3_000_000)
    arguments = parser.parse_args()
    count, repeats = (300_000, 1) if arguments.quick else (arguments.lines, 3)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "freebase-like.nt.gz"
        write_dump(dump, count)
        clean = Path(folder) / "clean.nt.gz"
        content = good_lines(dump, count)
        num_clean = content.count(b"\n")
        print(f"{count:,} lines, {len(content) / 2**20:,.0f} MiB, {dump.stat().st_size / 2**20:,.0f} MiB as gzip")
        clean.write_bytes(gzip.compress(content, 6))
        piece = good_lines(dump, min(count, 100_000))
        del content

        read_dump(SourceConfig(kind="freebase", paths=("x",)), dump, "warm-up", Path(folder) / "warm", workers=1)
        one = count / seconds_of_ours(dump, 1, repeats)
        two = count / seconds_of_ours(dump, 2, repeats)

        def bare() -> None:
            with gzip.open(clean, "rb") as file:
                assert sum(1 for _ in ox.parse(io.BufferedReader(file), format=ox.RdfFormat.N_TRIPLES)) == num_clean

        def with_rdflib() -> None:
            assert len(rdflib.Graph().parse(data=piece, format="nt"))

        oxigraph = num_clean / median_seconds(bare, repeats=repeats)
        slow = piece.count(b"\n") / median_seconds(with_rdflib, repeats=1)
    one_worker, two_workers = "gzip to shards, 1 worker", "gzip to shards, 2 workers"
    common = {"unit": "line/s", "more_is_better": True}
    print(Ratio(work=one_worker, peer="rdflib", ours=one, theirs=slow, target=25, **common))
    print(Ratio(work=one_worker, peer="bare pyoxigraph", ours=one, theirs=oxigraph, target=0.8, **common))
    print(Ratio(work=two_workers, peer="1 worker", ours=two, theirs=one, target=1.8, **common))
    print(Ratio(work=two_workers, peer="rdflib", ours=two, theirs=slow, target=25, **common))


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
