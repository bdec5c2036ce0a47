"""Pictures to vectors: the pipeline against the bare model, what decoding and the model allow together, clip-retrieval.

    python benchmarks/embed_pictures.py FOLDER [--model ViT-B-32] [--count 256] [--peer PYTHON]

FOLDER holds pictures in any depth. They are first made what models get in a build: upright RGB with a shorter side of
at most 336 px. Weights are random: they cost the same time as trained ones. PYTHON is the interpreter of an environment
in which clip-retrieval is installed; it runs its own worker on the same files, with the same weights out of a file, a
second time in one process, so that loading is not counted, and must give the same vectors.

On a GPU the pipeline must reach 95 % of the bare model loop on decoded batches. On a CPU decoding and the model share
the cores: with rates d and m, 1 / (1/d + 1/m) is what they allow.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from measure import Ratio, machine
from PIL import Image, ImageOps

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import content_key, encode_pictures, vector_archive
from mmkg.embeddings.clip import ClipEmbedder
from mmkg.embeddings.clip_model import load_clip
from mmkg.embeddings.pipeline import EncodeReport, in_pieces

SHORTER_SIDE_PX = 336
_ENDINGS = {".jpg", ".jpeg", ".png"}
_PEER = """
import json, sys, time
from clip_retrieval.clip_inference.worker import worker
folder, output, model, batch_size, workers = sys.argv[1:]
seconds = []
for turn in range(2):
    started = time.perf_counter()
    worker([0], folder, f"{output}/{turn}", 1, batch_size=int(batch_size), num_prepro_workers=int(workers),
           enable_text=False, clip_model=model, use_jit=False)
    seconds.append(time.perf_counter() - started)
print(json.dumps({"seconds": seconds}))
"""

FLAGS = Path(__file__).parents[1] / "examples/atlas/flags"


def normalise(path: Path) -> bytes:
    """A picture as a build keeps it for models."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.has_transparency_data:
            over_white = Image.new("RGBA", picture.size, "white")
            over_white.alpha_composite(picture.convert("RGBA"))
            picture = over_white
        picture = picture.convert("RGB")
    if (shorter := min(picture.size)) > SHORTER_SIDE_PX:
        picture = picture.resize([round(side * SHORTER_SIDE_PX / shorter) for side in picture.size])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def rate_of_decoding(embedder: ClipEmbedder, shown: list[tuple[str, bytes]]) -> tuple[float, list[np.ndarray]]:
    """Pictures a second that all cores decode and prepare, and what they give."""
    started = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        prepared = list(pool.map(lambda picture: embedder.prepare_image(picture[1]), shown, chunksize=8))
    return len(shown) / (time.perf_counter() - started), prepared


def rate_of_model(embedder: ClipEmbedder, prepared: list[np.ndarray], batch_size: int) -> float:
    """Pictures a second of the bare loop on tensors that lie on the device already."""
    model = embedder._model
    batches = []
    for batch in in_pieces(prepared, batch_size):
        pixels = torch.from_numpy(np.stack(batch)).to(model.device).permute(0, 3, 1, 2).contiguous()
        batches.append(pixels.float().div_(255).sub_(model._mean).div_(model._std).to(model._dtype))
    started = time.perf_counter()
    with torch.inference_mode():
        rows = [torch.nn.functional.normalize(model._encode_image(batch).float(), dim=-1) for batch in batches]
        torch.cat(rows).cpu()
    return len(prepared) / (time.perf_counter() - started)


def run_pipeline(
    embedder: ClipEmbedder, config: EmbeddingsConfig, shown: list[tuple[str, bytes]], folder: Path
) -> tuple[EncodeReport, dict[str, np.ndarray]]:
    """The report of a run into a new archive, and its vectors by sha256."""
    archive = vector_archive(folder, embedder.identity)
    report = encode_pictures(embedder, config, shown, archive)
    rows = archive.find([content_key("image", sha256) for sha256, _ in shown], ["vector"])["vector"].to_pylist()
    return report, {sha256: np.array(row) for (sha256, _), row in zip(shown, rows, strict=True)}


def run_peer(python: Path, files: Path, config: EmbeddingsConfig, workers: int, ours: dict[str, np.ndarray]) -> float:
    """Pictures a second of clip-retrieval's worker, once its model is loaded; stops when its vectors are others."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(load_clip(config).model.state_dict(), weights)
        model = f"open_clip:{config.model}/{weights}"
        command = [str(python), "-c", _PEER, str(files), folder, model, str(config.batch_size), str(workers)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"clip-retrieval: {answer.stderr[-2000:]}")
        seconds = json.loads(answer.stdout.splitlines()[-1])["seconds"][-1]
        [rows] = Path(folder, "1", "img_emb").glob("*.npy")
        theirs = np.load(rows).astype(np.float64)
    names = sorted(path.name for path in files.iterdir())
    mine = np.stack([ours[name.removesuffix(".jpg")] for name in names]).astype(np.float64)
    cosines = (mine * theirs).sum(axis=1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
    print(f"clip-retrieval: {len(names)} pictures, cosine with our vectors {cosines.min():.6f} or more")
    if cosines.min() < 0.999:
        raise SystemExit("clip-retrieval gives other vectors")
    return len(names) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FLAGS, help="of pictures; the flags of the atlas")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="Python with clip-retrieval")
    parser.add_argument("--peer-workers", type=int, default=4, help="of its DataLoader; 4 is its default")
    args = parser.parse_args()
    config = EmbeddingsConfig(
        kind="clip", model=args.model, batch_size=args.batch_size, precision=args.precision, compile=args.compile
    )
    print(machine())
    embedder = ClipEmbedder(config)
    device = embedder._model.device
    paths = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    pictures = [normalise(paths[place]) for place in np.linspace(0, len(paths) - 1, args.count).astype(int)]
    shown = list({hashlib.sha256(data).hexdigest(): data for data in pictures}.items())
    size = sum(len(data) for _, data in shown)
    print(f"{args.model}, {embedder.identity.precision}, {device}; {len(shown)} pictures, {size / 2**20:.1f} MiB")
    rates: dict[str, list[float]] = {"decode": [], "model": [], "pipeline": []}
    with tempfile.TemporaryDirectory() as folder:
        rate_of_model(embedder, rate_of_decoding(embedder, shown[: 2 * args.batch_size])[1], args.batch_size)
        for turn in range(args.passes):
            decode, prepared = rate_of_decoding(embedder, shown)
            rates["decode"].append(decode)
            rates["model"].append(rate_of_model(embedder, prepared, args.batch_size))
            report, vectors = run_pipeline(embedder, config, shown, Path(folder, str(turn)))
            rates["pipeline"].append(report.rows_per_second)
            print(f"pass {turn}: decode {decode:.0f}/s, model {rates['model'][-1]:.1f}/s; {report}")
        decode, model, pipeline = (statistics.median(rates[name]) for name in ("decode", "model", "pipeline"))
        on_gpu = device.type == "cuda"
        ratio = Ratio(
            work="pipeline",
            peer="bare model loop" if on_gpu else "1/(1/decode + 1/model)",
            unit="img/s",
            target=0.95 if on_gpu else 1.0,
            ours=pipeline,
            theirs=model if on_gpu else 1 / (1 / decode + 1 / model),
            more_is_better=True,
        )
        print(ratio)
        if args.peer is not None:
            files = Path(folder, "files")
            files.mkdir()
            for sha256, data in shown:
                (files / f"{sha256}.jpg").write_bytes(data)
            theirs = run_peer(args.peer, files, config, args.peer_workers, vectors)
            print(dataclasses.replace(ratio, peer="clip-retrieval", target=2, theirs=theirs))


if __name__ == "__main__":
    main()
