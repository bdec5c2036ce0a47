"""Pictures from a server on loopback into the library, beside img2dataset's way of fetching; then decoded as well.

The server is another process and answers at once. Ours: the whole `collect`, without rate limits: address and host
checked, fetched, type by content, hashed, stored as synced shards with the ledger. The peer is what img2dataset does
without its resizing: `urllib.request.urlopen` in a pool of threads, each picture written to a file; nothing is checked,
hashed or synced. Both run in processes of their own, in turns; medians of the rates.

    python benchmarks/fetch_pictures.py [--quick] [--pictures 6000]
"""

import argparse
import asyncio
import io
import multiprocessing
import resource
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import Ratio, machine
from PIL import Image

from mmkg.config.images import DecodeConfig, ImageFetchConfig, ImagesConfig
from mmkg.images.collect import collect
from mmkg.images.decode import Decoder, decode_part
from mmkg.images.library import PictureLibrary

CONNECTIONS = 16
KINDS = 64  # different pictures; a comment with its number makes each one content of its own
MAX_RSS_MB = 500
SPAWN = multiprocessing.get_context("spawn")


def make_pictures() -> list[bytes]:
    """JPEG files of 4 to 8 kB, as thumbnails are: smooth with some texture."""
    chance = np.random.default_rng(0)
    pictures = []
    for _ in range(KINDS):
        coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (192, 144), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse, np.int16) + chance.normal(0, 6, (144, 192, 1)).astype(np.int16)
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
        pictures.append(buffer.getvalue())
    return pictures


class PictureProtocol(asyncio.Protocol):
    """HTTP/1.1 with connections that stay open; the path ends in the picture's number."""

    pictures: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path == b"/robots.txt":
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            number = path.rpartition(b"/")[2].removesuffix(b".jpg")
            picture = self.pictures[int(number) % KINDS]
            comment = b"\xff\xfe" + (len(number) + 2).to_bytes(2, "big") + number
            body = picture[:2] + comment + picture[2:]
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            if b"Connection: close" in head:
                self.transport.close()


def serve(ready: Connection) -> None:
    PictureProtocol.pictures = make_pictures()

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(PictureProtocol, "127.0.0.1", 0, backlog=512)
        ready.send((server.sockets[0].getsockname()[1], [len(picture) for picture in PictureProtocol.pictures]))
        await server.serve_forever()

    asyncio.run(run())


def fetch_ours(folder: Path, urls: list[str]) -> None:
    limits = ImageFetchConfig(
        allow_loopback=True,
        requests_per_second=1e9,
        burst=10_000,
        connections_per_host=CONNECTIONS,
        connections=CONNECTIONS,
    )
    report = collect(ImagesConfig(fetch=limits), "", pa.table({"url": urls}), PictureLibrary(folder))
    assert report.statuses == {"ok": len(urls)}, report


def decode_ours(folder: Path, urls: list[str]) -> None:
    parts = PictureLibrary(folder).served.parts()
    with Decoder(DecodeConfig()) as decoder:
        counts = [decode_part(DecodeConfig(), part, folder / part.stem, decoder) for part in parts]
    assert sum(count["ok"] for count in counts) == len(urls), counts


def fetch_as_img2dataset(folder: Path, urls: list[str]) -> None:
    folder.mkdir()

    def fetch(number: int) -> None:
        with urllib.request.urlopen(urls[number], timeout=10) as answer:
            data = answer.read()
        (folder / f"{number:08d}.jpg").write_bytes(data)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        assert sum(1 for _ in pool.map(fetch, range(len(urls)))) == len(urls)


def _timed(work: Callable[[Path, list[str]], None], folder: Path, urls: list[str], answer: Connection) -> None:
    began = time.perf_counter()
    work(folder, urls)
    seconds = time.perf_counter() - began
    answer.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(work: Callable[[Path, list[str]], None], folder: Path, urls: list[str]) -> tuple[float, float]:
    """Seconds and peak RSS in MB of some work in a fresh process."""
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_timed, args=(work, folder, urls, there))
    process.start()
    there.close()
    seconds, rss_mb = here.recv()
    process.join()
    return seconds, rss_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 pictures, once")
    parser.add_argument("--pictures", type=int, default=6_000)
    arguments = parser.parse_args()
    count, repeats = (1_000, 1) if arguments.quick else (arguments.pictures, 3)
    print(machine())
    here, there = SPAWN.Pipe(duplex=False)
    server = SPAWN.Process(target=serve, args=(there,), daemon=True)
    server.start()
    port, sizes = here.recv()
    urls = [f"http://127.0.0.1:{port}/pictures/{number}.jpg" for number in range(count)]
    print(f"{count:,} pictures of {min(sizes):,} to {max(sizes):,} bytes, {CONNECTIONS} connections")
    fetched, whole, peer, rss = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats):
            place = Path(folder) / f"ours-{turn}"
            seconds, rss_mb = measure(fetch_ours, place, urls)
            decoding, decoding_rss_mb = measure(decode_ours, place, urls)
            fetched.append(count / seconds)
            whole.append(count / (seconds + decoding))
            rss.append((rss_mb, decoding_rss_mb))
            peer.append(count / measure(fetch_as_img2dataset, Path(folder) / f"peer-{turn}", urls)[0])
    server.kill()
    ours, theirs = statistics.median(fetched), statistics.median(peer)
    common = {"unit": "pict/s", "more_is_better": True}
    print(Ratio(work="fetched, hashed, stored", peer="img2dataset's way", ours=ours, theirs=theirs, target=1, **common))
    print(Ratio(work="fetched, hashed, stored", peer="figure", ours=ours, theirs=500, target=1, **common))
    decoded = statistics.median(whole)
    print(Ratio(work="fetched, stored, decoded", peer="figure", ours=decoded, theirs=200, target=1, **common))
    most = max(max(pair) for pair in rss)
    print(
        Ratio(
            work="peak RSS (fetching; decoding's parent)",
            peer="limit",
            ours=most,
            theirs=MAX_RSS_MB,
            unit="MB",
            target=1,
        )
    )


if __name__ == "__main__":
    main()
