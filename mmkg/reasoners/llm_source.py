"""Where a language model lies, and how it is read: bundled, a folder, or a hub name."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmkg.errors import ConfigError, FetchError, NotInstalled, require, unknown_name
from mmkg.reasoners.llm_config import LlmConfig

ATLAS_LM = Path(__file__).parent / "atlas_lm"
BUNDLED = {"atlas-causal": ATLAS_LM / "causal", "atlas-seq2seq": ATLAS_LM / "seq2seq"}
_CONFIG = "config.json"
_PROBE_SECONDS = 10
_NEEDED_BY = "a language model"


def read_llm(config: LlmConfig) -> tuple[Any, Any]:
    """Return the ``transformers`` model of a config, on the CPU (or as its device map says), and its tokenizer.

    A hub name is taken from the local cache when it is there, without asking the network.

    Raises:
        ConfigError: nothing is called so, or what is there is no causal or encoder-decoder language model.
        FetchError: a hub name is not in the cache and the hub does not answer, or has no such model.
        NotInstalled: transformers, or accelerate for a device map, is not there.
    """
    transformers = require("transformers", extra="llm", needed_by=_NEEDED_BY)
    if config.device_map == "auto" and importlib.util.find_spec("accelerate") is None:
        raise NotInstalled("device_map='auto' needs 'accelerate': pip install 'mmkg[llm]'; or set device_map='none'")
    folder = _folder_of(config.model)
    if folder is not None:
        return _read(transformers, str(folder), config, local_files_only=True)
    try:
        return _read(transformers, config.model, config, local_files_only=True)
    except ConfigError as error:  # not, or not whole, in the cache
        _check_hub_answers(config.model, error)
    return _read(transformers, config.model, config, local_files_only=False)


def _folder_of(model: str) -> Path | None:
    """The folder that a name means, or None for a hub name."""
    folder = BUNDLED.get(model, Path(model).expanduser())
    if folder.is_dir():
        if not (folder / _CONFIG).is_file():
            raise ConfigError(
                f"{folder}: expected {_CONFIG} as `save_pretrained` of transformers writes it, found none."
            )
        return folder
    owner, slash, name = model.partition("/")
    if slash and owner not in {"", ".", "..", "~"} and name and "/" not in name:
        return None
    raise ConfigError(
        f"{unknown_name('bundled language model', model, BUNDLED)} Nor is there such a folder; "
        "a name on the hub has an owner, such as 'google/flan-t5-small'."
    )


def _read(transformers: Any, name: str, config: LlmConfig, *, local_files_only: bool) -> tuple[Any, Any]:
    broken = require("safetensors", extra="llm", needed_by=_NEEDED_BY).SafetensorError
    where = {"revision": config.revision, "local_files_only": local_files_only}
    try:
        with _without_bars(transformers):
            settings = transformers.AutoConfig.from_pretrained(name, **where)
            kind = "AutoModelForSeq2SeqLM" if settings.is_encoder_decoder else "AutoModelForCausalLM"
            dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
            device_map = None if config.device_map == "none" else config.device_map
            model, told_of = getattr(transformers, kind).from_pretrained(
                name, config=settings, dtype=dtype, device_map=device_map, output_loading_info=True, **where
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, broken) as error:
        told = " ".join(str(error).split())
        if local_files_only:
            raise ConfigError(f"the language model {name} cannot be read: {told}") from error
        raise FetchError(f"the language model {name} cannot be fetched: {told}") from error
    # transformers draws by chance what the files do not hold, and goes on
    if missing := sorted(told_of["missing_keys"]):
        raise ConfigError(
            f"the language model {name} lacks the weights of {len(missing)} tensors, {missing[0]} first: "
            f"expected a {settings.model_type} with a language model head"
        )
    return model, tokenizer


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """Weights are read without a progress bar; it is switched for the whole process, so it is put back."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_hub_answers(name: str, in_cache: ConfigError) -> None:
    """One question with a short limit: the hub's own client asks six times, for half a minute."""
    httpx = require("httpx", extra="llm", needed_by=_NEEDED_BY)
    hub = require("huggingface_hub", extra="llm", needed_by=_NEEDED_BY)
    next_step = (
        f"Download it where there is a network (`hf download {name} --local-dir FOLDER`) and set model='FOLDER'."
    )
    if hub.constants.HF_HUB_OFFLINE:
        raise FetchError(
            f"{in_cache} It is not, or not whole, in the cache, and HF_HUB_OFFLINE is set. {next_step}"
        ) from in_cache
    try:
        httpx.head(hub.constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except httpx.HTTPError as error:
        raise FetchError(
            f"{in_cache} It is not, or not whole, in the cache, and {hub.constants.ENDPOINT} does not answer: {error}. "
            f"{next_step}"
        ) from error
