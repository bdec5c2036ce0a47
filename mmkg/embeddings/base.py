"""What an embedder is: pictures and texts in, rows of one space out, and an identity that says who made them.

An embedder is written for a pipeline: decode workers call `prepare_image` at the same time, a thread for each device
calls `embed_images` or `embed_texts`. To add one: a file here, a line in ``mmkg/embeddings/__init__.py``, an entry in
``tests/contracts/test_embedder.py``.
"""

import hashlib
import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from mmkg.errors import EmbeddingError
from mmkg.shards import digest

Modality = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
IDENTITY_METADATA = b"mmkg.embedder"
"""Key of the schema metadata under which every file of vectors has its embedder's identity."""

# what Pillow raises for bytes that are no whole picture, or too large a one
_NOT_A_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where warnings are errors
)


class OutOfMemory(EmbeddingError):  # noqa: N818 - reads as what it says
    """A batch did not fit into memory; a smaller one may."""


@dataclass(frozen=True, kw_only=True)
class EmbedderIdentity:
    """All that decides an embedder's numbers, and the versions of the libraries, which are only told.

    Vectors of two identities lie in two spaces: they are kept in two places and never compared.
    """

    kind: str
    """clip | sentence | hashing."""
    model: str
    """The architecture's name, or the last part of a folder's."""
    architecture: str
    """Digest of the model's own configuration: the same weights in another architecture give other numbers."""
    pretrained: str
    """Tag or file name of the weights; "random:SEED" or "" where there are none."""
    weights: str
    """SHA-256 of the tensors, in order of name, before they are brought to the precision."""
    tokenizer: str
    """Digest of vocabulary, cleaning and context length."""
    preprocessing: str
    """JSON of what is done to a picture before the model sees it."""
    dimension: int
    unit: bool
    """Whether rows have length 1."""
    precision: str
    """In which the model computes: fp32 | bf16 | fp16."""
    dtype: str
    """Of the numbers on disk: float16 | float32."""
    modalities: tuple[Modality, ...]
    libraries: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Versions that the vectors were made with: told, and no part of the digest."""

    @property
    def digest(self) -> str:
        """Names this identity: 16 hex digits."""
        return digest(self._deciding())

    def to_json(self, *, libraries: bool = True) -> str:
        """The identity as JSON text, for the metadata of files; without the versions of libraries where asked."""
        told = {"libraries": dict(self.libraries)} if libraries else {}
        return json.dumps({**self._deciding(), **told, "digest": self.digest}, sort_keys=True, ensure_ascii=False)

    def _deciding(self) -> dict[str, Any]:
        return {column.name: getattr(self, column.name) for column in fields(self) if column.name != "libraries"}


def read_identity(metadata: Mapping[bytes, bytes] | None, where: object) -> EmbedderIdentity:
    """Read the identity out of the schema metadata of a file of vectors.

    Args:
        metadata: of a Parquet file's schema.
        where: the file, for the message.

    Raises:
        EmbeddingError: there is none, or it is not one that this version of mmkg wrote.
    """
    text = (metadata or {}).get(IDENTITY_METADATA)
    if text is None:
        raise EmbeddingError(f"{where}: says not which embedder made its vectors. Make them again: `mmkg build`.")
    try:
        said = json.loads(text)
        named = said.pop("digest")
        identity = EmbedderIdentity(**{**said, "modalities": tuple(said["modalities"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EmbeddingError(f"{where}: its embedder's identity cannot be read ({error}). Run `mmkg build`.") from error
    if identity.digest != named:
        raise EmbeddingError(f"{where}: its embedder's identity has the digest {identity.digest}, not {named} as told.")
    return identity


class Embedder(Protocol):
    """Turns pictures and texts into rows of one space; rows are float32 and of length 1."""

    identity: EmbedderIdentity

    def prepare_image(self, normalised: bytes) -> Any:
        """Decode and preprocess one picture, as `embed_images` takes it; several threads may call at once.

        Raises:
            EmbeddingError: the bytes are no picture.
        """

    def embed_images(self, batch: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Rows of n prepared pictures, (n, d); what is not finite stays so.

        Raises:
            EmbeddingError: this embedder has no pictures.
            OutOfMemory: the batch is too large for the device.
        """

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Rows of n texts, (n, d); a text that is too long is cut.

        Raises:
            EmbeddingError: this embedder has no texts.
            OutOfMemory: the batch is too large for the device.
        """

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of some texts are longer than the model reads, so that `embed_texts` cuts them."""

    def on_devices(self) -> Sequence["Embedder"]:
        """This embedder, and one like it for every other device that it may use."""


def content_key(modality: Modality, content: str, *, normalised_by: str = "") -> str:
    """What a vector is looked up by: SHA-256 of the modality and of what was embedded.

    Args:
        modality: image | text.
        content: a picture's sha256, or the text itself.
        normalised_by: of a picture: digest of how the bytes with that sha256 became the picture that the model gets;
            with other settings it is another picture.

    >>> content_key("text", "France") == content_key("text", "France")
    True
    >>> content_key("text", "France") == content_key("image", "France")
    False
    """
    return hashlib.sha256("\0".join([modality, normalised_by, content]).encode()).hexdigest()


def vector_type(identity: EmbedderIdentity) -> pa.DataType:
    """The type of a column of vectors, named as Parquet gives it back."""
    number = pa.float16() if identity.dtype == "float16" else pa.float32()
    return pa.list_(pa.field("element", number, nullable=False), identity.dimension)


def open_picture(normalised: bytes) -> Image.Image:
    """Decode one picture to RGB.

    Raises:
        EmbeddingError: the bytes are no picture, or are cut off.
    """
    try:
        with Image.open(io.BytesIO(normalised)) as picture:
            return picture.convert("RGB")
    except UnidentifiedImageError as error:
        raise EmbeddingError("not a picture: its bytes are of no known format") from error
    except _NOT_A_PICTURE as error:
        raise EmbeddingError(f"not a picture that can be decoded: {error or type(error).__name__}") from error


def unit_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows (n, d) scaled to length 1; a row of zeros stays as it is."""
    lengths: npt.NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    lengths[lengths == 0] = 1
    return rows / lengths[:, None]


def lacks_modality(identity: EmbedderIdentity, modality: Modality) -> EmbeddingError:
    """The error of an embedder that is asked for what it cannot turn into vectors."""
    what = "pictures" if modality == "image" else "texts"
    return EmbeddingError(
        f"the {identity.kind} embedder '{identity.model}' has no vectors of {what}. "
        "Set kind = 'clip' in [embeddings]: it has both."
    )
