"""Which embedder a config means, known without loading its model when it was opened here before.

A rebuild in which nothing has changed needs the embedder's identity, to find that its vectors are there, and not the
model. The precision that ``auto`` measured is remembered with it: a measurement that comes out otherwise on a busy
night must not embed everything again.
"""

import functools
import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import Embedder, EmbedderIdentity, open_embedder
from mmkg.embeddings.base import IDENTITY_METADATA, read_identity
from mmkg.errors import EmbeddingError
from mmkg.shards import digest, write_json

IDENTITIES = "identities"  # beside the archives of the embedders
_DECIDING = {"kind", "model", "pretrained", "precision", "dtype", "random_seed"}
_BUNDLED = Path(__file__).parent / "atlas_clip"  # the model `atlas`
_PACKAGES = ("mmkg", "open_clip_torch", "sentence-transformers", "torch")


class RememberedEmbedder:
    """An embedder that is loaded when it is first needed.

    Args:
        config: the settings of [embeddings].
        folder: where identities are remembered: ``builds/GRAPH/vectors``.
    """

    def __init__(self, config: EmbeddingsConfig, folder: Path) -> None:
        self.config = config
        self._path = (
            folder / IDENTITIES / f"{digest([config.model_dump(include=_DECIDING), list(_files(config))])}.json"
        )

    @functools.cached_property
    def identity(self) -> EmbedderIdentity:
        """Who makes the vectors."""
        remembered = self._read()
        return remembered or self.embedder.identity

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The embedder itself.

        Raises:
            EmbeddingError: it cannot be had, or is another than the one that was remembered.
        """
        remembered = self._read()
        precision = remembered.precision if remembered else self.config.precision
        embedder = _open(self.config.model_copy(update={"precision": precision}))
        if remembered is not None and remembered.digest != embedder.identity.digest:
            self._path.unlink()
            raise EmbeddingError(
                f"{self.config.kind} '{self.config.model}': its weights or settings are others than when it was opened "
                "last. Run the same command again: it makes new vectors."
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, json.loads(embedder.identity.to_json()))
        return embedder

    def _read(self) -> EmbedderIdentity | None:
        if not self._path.exists():
            return None
        return read_identity({IDENTITY_METADATA: self._path.read_bytes()}, self._path)


@functools.lru_cache(maxsize=1)
def _open(settings: EmbeddingsConfig) -> Embedder:
    """Several stages of a build need the same one."""
    return open_embedder(settings)


def _files(config: EmbeddingsConfig) -> Iterator[str | list[int | str]]:
    """What may change under the same settings: files of weights, by size and time, and versions of packages."""
    for name in filter(None, (config.model, config.pretrained)):  # Path("") would be the working directory
        path = _BUNDLED if name == "atlas" else Path(name)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []:
            status = file.stat()
            yield [str(file), status.st_size, status.st_mtime_ns]
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} none"
