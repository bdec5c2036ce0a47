"""What is special to contrastive training: pictures, each with a few of its captions, told from each other in a batch.

Choice of captions, text noise and augmentation of a batch all follow from the generator that comes with it, and the
model draws nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkg.embeddings.atlas_tokenizer import AtlasTokenizer
from mmkg.training.batches import even_batches
from mmkg.training.contrastive.augment import augment
from mmkg.training.contrastive.loss import multi_positive_loss
from mmkg.training.contrastive.model import normalise
from mmkg.training.contrastive.pictures import CaptionedPictures, Int64Array
from mmkg.training.contrastive.recipe import ContrastiveRecipe
from mmkg.training.contrastive.retrieval import (
    FloatArray,
    measure_retrieval,
    one_caption_a_statement,
    specific_captions,
)
from mmkg.training.learner import Look
from mmkg.training.settings import LoopSettings

_LARGER = 1.25  # train pictures are kept so much larger than the model sees them, so that a crop still has its detail
_ROWS_AT_ONCE = 256
_ARTICLES = ("a", "an", "the")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def loop_settings(recipe: ContrastiveRecipe) -> LoopSettings:
    """Return what the loop needs to know of a recipe."""
    return LoopSettings(
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        max_minutes=recipe.max_minutes,
        optimiser="adamw",
        betas=(0.9, 0.98),  # of CLIP, for its vision transformers
        fused_optimiser=False,  # the weights that are shipped were made without
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        schedule="cosine",
        warmup=recipe.warmup,
        gradient_clip=recipe.gradient_clip,
        valid_every=recipe.valid_every,
        checkpoint_minutes=recipe.checkpoint_minutes,
        random_seed=recipe.random_seed,
    )


class ContrastiveLearner:
    """Captioned pictures and a CLIP that tells them apart; a :class:`~mmkg.training.learner.Learner`."""

    unit = "pictures"
    inputs = "pictures"
    divisible = False  # the rest of the batch is what a picture is told from

    def __init__(
        self,
        recipe: ContrastiveRecipe,
        train: CaptionedPictures,
        valid: CaptionedPictures | None,
        model: nn.Module,
        tokenizer: AtlasTokenizer,
        *,
        data_digest: str,
        device: torch.device,
    ) -> None:
        """Load all pictures into memory.

        Args:
            recipe: all settings.
            train: what is learnt from.
            valid: what the model is chosen by; None takes the last.
            model: a CLIP of open_clip, on ``device``.
            tokenizer: of its texts.
            data_digest: of the pictures; a checkpoint of others is refused.
            device: cpu or a GPU.

        Raises:
            TrainingError: a picture cannot be read.
        """
        self.recipe, self.train, self.valid, self.tokenizer = recipe, train, valid, tokenizer
        self.model, self.digest, self.device = model, data_digest, device
        self._pixels = train.pixels(round(_LARGER * recipe.image_size_px))
        self._valid_pixels = None if valid is None else valid.pixels(recipe.image_size_px)
        self._valid_captions = None if valid is None else one_caption_a_statement(valid, specific_captions(valid))

    @property
    def num_examples(self) -> int:
        """How many pictures there are to learn from."""
        return len(self.train.files)

    def batches(self, random: np.random.Generator) -> Sequence[Int64Array]:
        """Return an epoch's batches of pictures."""
        return even_batches(len(self.train.files), self.recipe.batch_size, random)

    def loss(self, rows: Int64Array, random: np.random.Generator) -> Tensor:
        """Return the loss of the pictures of ``rows``, with captions and augmentation drawn."""
        captions = np.array([caption for row in rows.tolist() for caption in self._draw_captions(row, random)])
        positive_BM = self.train.truth[rows][:, self.train.statement_of[captions]].toarray() > 0
        texts = [self._noisy(self.train.texts[caption], random) for caption in captions.tolist()]
        pixels = augment(self._pixels[rows], self.recipe.image_size_px, self.recipe.augmentation, random)
        image_BD = self.model.encode_image(normalise(pixels).to(self.device), normalize=True)  # type: ignore[operator]
        text_MD = self.model.encode_text(self.tokenizer(texts).to(self.device), normalize=True)  # type: ignore[operator]
        scale: Tensor = self.model.logit_scale.exp()  # type: ignore[operator]
        return multi_positive_loss(image_BD, text_MD, scale, torch.from_numpy(positive_BM).to(self.device))

    def _draw_captions(self, picture: int, random: np.random.Generator) -> list[int]:
        """Captions of a picture: a kind, then a caption of it, so that a kind of many captions is not all there is."""
        by_kind = self.train.captions_by_kind[picture]
        weights = np.array([self.recipe.kind_weights.get(kind, 1.0) for kind in by_kind])
        kinds = list(by_kind.values())
        drawn = random.choice(len(kinds), size=self.recipe.captions_per_picture, p=weights / weights.sum())
        return [kinds[number][random.integers(len(kinds[number]))] for number in drawn.tolist()]

    def _noisy(self, text: str, random: np.random.Generator) -> str:
        """Sometimes without articles, sometimes with a word that nobody knows."""
        words = text.split(" ")
        if random.random() < self.recipe.without_articles:
            words = [word for word in words if word not in _ARTICLES] or words
        if random.random() < self.recipe.unknown_words:
            made_up = "".join(random.choice(list(_LETTERS), size=random.integers(2, 8)))
            words.insert(int(random.integers(len(words) + 1)), made_up)
        return " ".join(words)

    def after_step(self) -> None:
        """Keep the temperature within its limit."""
        self.model.logit_scale.clamp_(0, math.log(self.recipe.max_logit_scale))  # type: ignore[operator]

    def row(self) -> Mapping[str, float]:
        """Return the learned inverse temperature."""
        return {"logit_scale": float(self.model.logit_scale.detach().exp())}  # type: ignore[operator]

    def look(self) -> Look | None:
        """Measure recall of the valid pictures' most specific captions; None without valid pictures."""
        if self.valid is None or self._valid_pixels is None or self._valid_captions is None:
            return None
        image_PD = self.encode_images(self._valid_pixels)
        text_TD = self.encode_texts([self.valid.texts[caption] for caption in self._valid_captions])
        score_PT = image_PD @ text_TD.T
        right_PT = self.valid.truth[:, self.valid.statement_of[self._valid_captions]].toarray().astype(bool)
        found: dict[str, float] = {}
        for direction, score, right in (
            ("image_to_text", score_PT, right_PT),
            ("text_to_image", score_PT.T, right_PT.T),
        ):
            one = measure_retrieval(score, right, [str(row) for row in range(len(score))])
            if one is not None:
                found |= {f"valid_{direction}_{name}": value.value for name, value in one.figures.items()}
        recall = (found["valid_image_to_text_recall_at_1"] + found["valid_text_to_image_recall_at_1"]) / 2
        numbers = {"valid_recall_at_1": recall, **found}
        # few pictures give few different recalls: of two alike the one that has learnt longer
        return Look(score=recall, label="valid recall@1", numbers=numbers, later_wins=True)

    def encode_images(self, pixels_PCHW: Tensor) -> FloatArray:
        """Return unit vectors of pictures of the model's size, uint8."""
        self.model.eval()
        encode: Any = self.model.encode_image
        with torch.no_grad():
            images = (normalise(part.float() / 255).to(self.device) for part in torch.split(pixels_PCHW, _ROWS_AT_ONCE))
            parts = [encode(image, normalize=True).cpu() for image in images]
        return np.asarray(torch.cat(parts).numpy())

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return unit vectors of texts."""
        self.model.eval()
        encode: Any = self.model.encode_text
        with torch.no_grad():
            tokens = torch.split(self.tokenizer(texts), _ROWS_AT_ONCE)
            parts = [encode(part.to(self.device), normalize=True).cpu() for part in tokens]
        return np.asarray(torch.cat(parts).numpy())
