"""Embedder `clip`: any model of open_clip, on GPUs or the CPU; pictures and texts in one space.

``model`` is one of open_clip's architectures with ``pretrained`` a tag or a checkpoint file, a folder with
``open_clip_config.json`` and weights, ``hf-hub:OWNER/NAME``, or ``atlas``, the small model that mmkg brings. Pictures
are prepared as open_clip does it, to the last bit, but in two halves: decode workers scale and crop with Pillow, and
the rest is done to a batch on its device; so a quarter of the bytes wait in memory and go to a GPU.

Source: Radford et al., ICML 2021, arXiv:2103.00020; Cherti et al., CVPR 2023, arXiv:2212.07143.
"""

import copy
import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.base import MODALITIES, EmbedderIdentity, OutOfMemory, open_picture
from mmkg.embeddings.clip_model import LoadedClip, count_cut, load_clip, read_preprocessing, tokenizer_digest
from mmkg.errors import EmbeddingError, require

for _package in ("torch", "torchvision", "open_clip"):
    require(_package, extra="images", needed_by="the clip embedder")

# after the check that says how to install them
import torch  # noqa: E402
from open_clip.transform import image_transform_v2  # noqa: E402

from mmkg.embeddings.hardware import (  # noqa: E402
    DTYPES,
    best_seconds,
    choose_devices,
    choose_precision,
    telling_memory_errors,
    weights_digest,
)

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "pillow")
_ROWS_MEASURED = 8
_THREADS_PER_GPU = 2  # one brings a batch there and fetches its rows while the other's is computed
_BATCH_STEPS = ["MaybeConvertMode", "MaybeToTensor", "Normalize"]  # the end of every preprocessing of open_clip


class ClipEmbedder:
    """Rows are the model's features of pictures and texts, scaled to length 1 in float32.

    Args:
        config: the settings of [embeddings].

    Raises:
        EmbeddingError: the model, its weights or the device cannot be had.
    """

    def __init__(self, config: EmbeddingsConfig) -> None:
        loaded = load_clip(config)
        self._tokenizer = loaded.tokenizer
        self._tokenizing = threading.Lock()  # fast tokenizers of transformers are not for two threads at once
        settings, preprocessing = read_preprocessing(loaded.model)
        steps = image_transform_v2(settings, is_train=False).transforms
        if [type(step).__name__ for step in steps[-3:]] != _BATCH_STEPS:
            raise EmbeddingError(f"{config.model}: its preprocessing ends in {steps[-3:]}, expected {_BATCH_STEPS}")
        self._scale_and_crop = steps[:-3]
        devices = choose_devices(config.device)
        pixels = np.zeros((min(_ROWS_MEASURED, config.batch_size), *settings.input_size[1:], 3), np.uint8)

        def seconds_of(precision: str) -> float:
            model = _DeviceModel(loaded, precision, devices[0], steps[-1], compiled=False)
            return best_seconds(lambda: model.image_rows(pixels))

        num_parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
        precision = choose_precision(config.precision, num_parameters, seconds_of)
        self.identity = EmbedderIdentity(
            kind="clip",
            model=loaded.source.shown_name,
            architecture=loaded.architecture,
            pretrained=loaded.source.shown_pretrained,
            weights=weights_digest(loaded.model.state_dict()),
            tokenizer=tokenizer_digest(loaded.tokenizer),
            preprocessing=preprocessing,
            dimension=int(loaded.config["embed_dim"]),
            unit=True,
            precision=precision,
            dtype=config.dtype,
            modalities=MODALITIES,
            libraries={name: version(name) for name in _PACKAGES},
        )
        self._models = [
            _DeviceModel(loaded, precision, device, steps[-1], compiled=config.compile) for device in devices
        ]
        self._model = self._models[0]
        if config.compile:
            batch = np.zeros((config.batch_size, *pixels.shape[1:]), np.uint8)
            for model in self._models:
                model.compile_now(batch)

    def prepare_image(self, normalised: bytes) -> npt.NDArray[np.uint8]:
        """Decode, scale and crop one picture: (height, width, 3) as the model wants it.

        Raises:
            EmbeddingError: the bytes are no picture.
        """
        picture: Any = open_picture(normalised)
        for step in self._scale_and_crop:
            picture = step(picture)
        return np.asarray(picture)

    def embed_images(self, batch: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Rows of n prepared pictures, (n, d).

        Raises:
            OutOfMemory: the batch is too large for the device.
        """
        if not len(batch):
            return np.empty((0, self.identity.dimension), np.float32)
        return self._model.image_rows(np.stack(batch))

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Rows of n texts, (n, d); what is beyond the model's context is cut off.

        Raises:
            OutOfMemory: the batch is too large for the device.
        """
        if not len(texts):
            return np.empty((0, self.identity.dimension), np.float32)
        with self._tokenizing:
            tokens = self._tokenizer(list(texts))
        return self._model.text_rows(tokens)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the model's context."""
        with self._tokenizing:
            return count_cut(self._tokenizer, texts)

    def on_devices(self) -> Sequence["ClipEmbedder"]:
        """One embedder for each device; two that share a model for a GPU, so that it need not wait for a batch."""
        embedders = []
        for model in self._models:
            embedder = copy.copy(self)
            embedder._model = model
            embedders += [embedder] * (_THREADS_PER_GPU if model.device.type == "cuda" else 1)
        return embedders


class _DeviceModel:
    """A model on its device, with the second half of the preprocessing."""

    def __init__(
        self, loaded: LoadedClip, precision: str, device: torch.device, normalize: Any, *, compiled: bool
    ) -> None:
        model = loaded.in_precision(precision)
        if device.type != "cpu":  # `to` moves a module itself, and the next device wants it too
            model = copy.deepcopy(model).to(device)
        self.device = device
        self._dtype = DTYPES[precision]
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for values in (normalize.mean, normalize.std)
        )
        self._encode_image = torch.compile(model.encode_image) if compiled else model.encode_image
        self._encode_text = torch.compile(model.encode_text) if compiled else model.encode_text

    def image_rows(self, pixels_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Rows (N, d) of scaled and cropped pictures (N, height, width, 3)."""
        with torch.inference_mode(), telling_memory_errors():
            pixels = torch.from_numpy(pixels_NHWC).to(self.device).permute(0, 3, 1, 2).contiguous()
            # the same operations in the same order as torchvision's to_tensor and normalize
            pixels = pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)
            return _unit(self._encode_image(pixels.to(self._dtype)))

    def text_rows(self, tokens: torch.Tensor) -> npt.NDArray[np.float32]:
        """Rows (n, d) of token ids (n, context)."""
        with torch.inference_mode(), telling_memory_errors():
            return _unit(self._encode_text(tokens.to(self.device)))

    def compile_now(self, pixels_NHWC: npt.NDArray[np.uint8]) -> None:
        """Compile for a batch of pictures, rather than in the middle of a run.

        Raises:
            EmbeddingError: it does not compile.
        """
        try:
            self.image_rows(pixels_NHWC)
        except OutOfMemory as error:
            logger.warning("not compiled ahead: %s", error)  # a run halves its batches
        except RuntimeError as error:
            told = str(error).partition("\n")[0]
            raise EmbeddingError(f"the model cannot be compiled here: {told}. Set compile = false.") from error


def _unit(features: torch.Tensor) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return rows
