"""Models of open_clip: where they come from, how they are loaded, and what decides their numbers."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmkg.config import EmbeddingsConfig
from mmkg.errors import EmbeddingError, require, unknown_name
from mmkg.shards import digest

for _package in ("torch", "torchvision", "open_clip"):
    require(_package, extra="images", needed_by="the clip embedder")

# after the check that says how to install them
import open_clip  # noqa: E402
import torch  # noqa: E402

from mmkg.embeddings.atlas_tokenizer import VOCABULARY, AtlasTokenizer  # noqa: E402
from mmkg.embeddings.hardware import READ_ERRORS  # noqa: E402

logger = logging.getLogger(__name__)

ATLAS_FOLDER = Path(__file__).parent / "atlas_clip"
_HUB = "hf-hub:"
_CONFIG = "open_clip_config.json"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pth")  # what open_clip looks for in a folder


@dataclass(frozen=True)
class ClipSource:
    """Where a model comes from."""

    name: str
    """As open_clip takes it: an architecture, ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``."""
    pretrained: str
    """Tag or file of the weights; empty for random ones, and where the name says it."""
    shown_name: str
    shown_pretrained: str
    folder: Path | None = None


def find_source(config: EmbeddingsConfig) -> ClipSource:
    """Where the model of a config comes from.

    Raises:
        EmbeddingError: open_clip has no such architecture or tag, or the folder holds no model.
    """
    folder = ATLAS_FOLDER if config.model == "atlas" else Path(config.model)
    if config.model == "atlas" or folder.is_dir():
        weights = [path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern))]
        if not (folder / _CONFIG).is_file() or not weights:
            raise EmbeddingError(f"{folder}: expected {_CONFIG} and weights ({', '.join(_WEIGHTS)}), found not both.")
        return ClipSource(f"local-dir:{folder}", "", folder.resolve().name, weights[0].name, folder)
    if config.model.startswith(_HUB):
        return ClipSource(config.model, "", config.model, config.model)
    name = config.model.replace("/", "-")
    known = open_clip.list_models()
    if name not in known:
        raise EmbeddingError(f"{unknown_name('architecture of open_clip', name, known)} Nor is it a folder.")
    pretrained = config.pretrained
    if not pretrained:
        logger.warning("%s has random weights: set `pretrained` in [embeddings] for vectors that mean something", name)
        return ClipSource(name, "", name, f"random:{config.random_seed}")
    if Path(pretrained).is_file():
        return ClipSource(name, pretrained, name, Path(pretrained).name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        raise EmbeddingError(f"{unknown_name(f'pretrained tag of {name}', pretrained, tags)} Nor is it a file.")
    return ClipSource(name, pretrained, name, pretrained)


@dataclass(frozen=True)
class LoadedClip:
    """A model on the CPU in float32, with what belongs to it."""

    source: ClipSource
    model: Any
    config: dict[str, Any]
    """Of the architecture."""
    tokenizer: Any
    _lower: dict[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """Digest of the model's configuration."""
        return digest(self.config)

    def in_precision(self, precision: str) -> Any:
        """The model in another precision: open_clip makes some of its modules of other classes for it.

        Args:
            precision: fp32 | bf16 | fp16.
        """
        if precision == "fp32":
            return self.model
        if precision not in self._lower:
            with _telling_unreadable(self.source), _own_randomness(0):
                model = open_clip.create_model(
                    self.source.name, load_weights=False, precision=precision, pretrained_text=False
                )
                model.load_state_dict(self.model.state_dict())
            self._lower[precision] = model.eval()
        return self._lower[precision]


def load_clip(config: EmbeddingsConfig) -> LoadedClip:
    """Load the model of a config, with weights from its file or tag, or from `random_seed`.

    Raises:
        EmbeddingError: it cannot be found, fetched or read.
    """
    source = find_source(config)
    with _telling_unreadable(source), _own_randomness(config.random_seed):
        model = open_clip.create_model(source.name, pretrained=source.pretrained or None, pretrained_text=False).eval()
        model_config = open_clip.get_model_config(source.name)
        if source.folder is not None and (source.folder / VOCABULARY).is_file():
            tokenizer: Any = AtlasTokenizer(source.folder)
        else:
            tokenizer = open_clip.get_tokenizer(source.name)
    return LoadedClip(source, model, model_config, tokenizer)


@contextmanager
def _telling_unreadable(source: ClipSource) -> Iterator[None]:
    """Say of what cannot be loaded where it was to come from; and keep open_clip from the root logger.

    It logs there by functions of `logging` that set up a handler where there is none, and what it says is said by us.
    """
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_drop)
    try:
        yield
    except READ_ERRORS as error:
        weights = f" with {source.pretrained}" if source.pretrained else ""
        told = " ".join(str(error).split())
        raise EmbeddingError(f"the model {source.folder or source.name}{weights} cannot be loaded: {told}") from error
    finally:
        root.removeFilter(_drop)
        root.removeHandler(handler)


def _drop(_: logging.LogRecord) -> bool:
    return False


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Weights drawn by a seed of their own, without a trace in the caller's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of what decides a tokenizer's ids: vocabulary, order of merges, cleaning, context length."""
    if isinstance(tokenizer, AtlasTokenizer):
        return tokenizer.digest
    cleaning = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")
    decides: list[Any] = [type(tokenizer).__name__, tokenizer.context_length, cleaning]
    if hasattr(tokenizer, "encoder"):
        merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
        return digest([*decides, tokenizer.encoder, merges, getattr(tokenizer.reduction_fn, "__name__", "")])
    backend = tokenizer.tokenizer.backend_tokenizer.to_str()
    return digest(
        [*decides, backend, getattr(tokenizer, "tokenizer_mode", ""), getattr(tokenizer, "strip_sep_token", "")]
    )


def count_cut(tokenizer: Any, texts: Sequence[str]) -> int:
    """How many texts have more tokens than a tokenizer's context."""
    if hasattr(tokenizer, "encode"):
        return sum(len(tokenizer.encode(text)) + 2 > tokenizer.context_length for text in texts)  # with start and end
    ids = tokenizer.tokenizer(list(texts), truncation=False, padding=False, verbose=False).input_ids
    return sum(len(row) > tokenizer.context_length for row in ids)


def read_preprocessing(model: Any) -> tuple[Any, str]:
    """How a model wants pictures: open_clip's settings, and the same as JSON."""
    settings = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    return settings, json.dumps(vars(settings), sort_keys=True)
