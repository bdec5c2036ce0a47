"""The model of a contrastive recipe: open_clip's CLIP, small, and the folder that open_clip loads it from."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.atlas_tokenizer import OPEN_CLIP_CONFIG, VOCABULARY, AtlasTokenizer
from mmkg.errors import require
from mmkg.shards import write_bytes
from mmkg.training.contrastive.recipe import ContrastiveRecipe

WEIGHTS = "model.safetensors"
MEAN = STANDARD_DEVIATION = (0.5, 0.5, 0.5)  # of channels in 0 … 1: they become -1 … 1


def model_config(recipe: ContrastiveRecipe, num_tokens: int) -> dict[str, Any]:
    """Return what ``open_clip_config.json`` says: architecture and preprocessing."""
    return {
        "model_cfg": {
            "embed_dim": recipe.embed_width,
            "vision_cfg": {
                "image_size": recipe.image_size_px,
                "patch_size": recipe.patch_size_px,
                "width": recipe.vision_width,
                "layers": recipe.vision_layers,
                "head_width": recipe.vision_width // recipe.vision_heads,
            },
            "text_cfg": {
                "context_length": recipe.context_length,
                "vocab_size": num_tokens,
                "width": recipe.text_width,
                "heads": recipe.text_heads,
                "layers": recipe.text_layers,
                "mlp_ratio": recipe.text_mlp_ratio,
            },
        },
        "preprocess_cfg": {
            "mean": list(MEAN),
            "std": list(STANDARD_DEVIATION),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def make_model(recipe: ContrastiveRecipe, num_tokens: int) -> nn.Module:
    """Return a new model with its first weights drawn from torch's generator.

    Raises:
        NotInstalled: open_clip is not there.
    """
    open_clip = require("open_clip.model", extra="images", needed_by=f"the recipe {recipe.name}")
    model: nn.Module = open_clip.CLIP(**model_config(recipe, num_tokens)["model_cfg"])
    return model


def normalise(image_BCHW: Tensor) -> Tensor:
    """Return what the model takes: channels in 0 … 1 become -1 … 1."""
    return (image_BCHW - MEAN[0]) / STANDARD_DEVIATION[0]


def export_model(folder: Path, tensors: Mapping[str, Tensor], recipe: ContrastiveRecipe, tokens: Sequence[str]) -> None:
    """Write a folder that ``open_clip.create_model_from_pretrained("local-dir:FOLDER")`` loads; weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in sorted(tensors.items())}
    write_bytes(folder / OPEN_CLIP_CONFIG, (json.dumps(model_config(recipe, len(tokens)), indent=2) + "\n").encode())
    write_bytes(folder / VOCABULARY, "".join(f"{token}\n" for token in tokens).encode())
    write_bytes(folder / WEIGHTS, save(half, metadata={"format": "pt"}))


def open_exported(folder: Path) -> tuple[nn.Module, Callable[[Image.Image], Tensor], AtlasTokenizer]:
    """Load an exported model as the embedder `clip` does: model, preprocessing of a picture, tokenizer.

    Raises:
        NotInstalled: open_clip is not there.
        EmbeddingError: the folder holds no model with a vocabulary.
    """
    from mmkg.embeddings.clip_model import load_clip, read_preprocessing

    transforms = require("open_clip.transform", extra="images", needed_by="a CLIP model")
    loaded = load_clip(EmbeddingsConfig(kind="clip", model=str(folder)))
    settings, _ = read_preprocessing(loaded.model)
    return loaded.model, transforms.image_transform_v2(settings, is_train=False), AtlasTokenizer(folder)
