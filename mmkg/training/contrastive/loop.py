"""The training loop of a contrastive recipe: batches of pictures, each with a few of its captions.

What makes two runs equal: order, choice of captions, text noise and augmentation of a batch follow from seed, epoch
and number of the batch alone, and the model draws nothing. So a run that goes on after a kill computes the same bits
on the CPU.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkg.embeddings.atlas_tokenizer import AtlasTokenizer
from mmkg.errors import TrainingError
from mmkg.training.checkpoint import Checkpoint, load_model, load_optimiser, optimiser_tensors
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

logger = logging.getLogger(__name__)

_LARGER = 1.25  # train pictures are kept so much larger than the model sees them, so that a crop still has its detail
_LINE_SECONDS = 15.0
_ROWS_AT_ONCE = 256
_ARTICLES = ("a", "an", "the")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(kw_only=True)
class Position:
    """Where a run is; with the tensors of a checkpoint it decides everything that follows."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the epoch that runs
    step: int = 0
    loss_sum: float = 0.0  # of the epoch that runs, times pictures
    loss_pictures: int = 0
    elapsed_seconds: float = 0.0
    best_recall: float = -1.0
    best_epoch: float = -1.0
    stopped: str = ""  # why the run ended; empty while it runs
    history: list[dict[str, Any]] = field(default_factory=list)


class ContrastiveLoop:
    """One run: :meth:`run` yields after each epoch (and each checkpoint that is due), when it can be saved."""

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
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Load all pictures into memory and make the optimiser.

        Args:
            recipe: all settings.
            train: what is learnt from.
            valid: what the model is chosen by; None takes the last.
            model: a CLIP of open_clip, on ``device``.
            tokenizer: of its texts.
            data_digest: of the pictures; a checkpoint of others is refused.
            device: cpu or a GPU.
            progress: called with one line of text now and then.

        Raises:
            TrainingError: a picture cannot be read.
        """
        self.recipe, self.train, self.valid, self.model, self.tokenizer = recipe, train, valid, model, tokenizer
        self.device = device
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self._data_digest = data_digest
        self._pixels = train.pixels(round(_LARGER * recipe.image_size_px))
        self._valid_pixels = None if valid is None else valid.pixels(recipe.image_size_px)
        self._valid_captions = None if valid is None else one_caption_a_statement(valid, specific_captions(valid))
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        self._optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),  # of CLIP, for its vision transformers
        )
        self._progress = progress or (lambda _line: None)
        self._started = time.monotonic()
        self._before = 0.0
        self._next_line = 0.0

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Position]:
        """Train until the epochs or the minutes are over; yield whenever a checkpoint is due.

        Raises:
            TrainingError: the loss is not a finite number.
        """
        self._before, self._started = self.position.elapsed_seconds, time.monotonic()
        saved = time.monotonic()
        while not self.position.stopped:
            for rows in self._batches():
                self._step(rows)
                if self._out_of_time():
                    self.position.stopped = f"max_minutes ({self.recipe.max_minutes:g}) are over"
                    break
                if time.monotonic() - saved > 60 * self.recipe.checkpoint_minutes:
                    saved = time.monotonic()
                    yield self.position
            self._end_epoch()
            saved = time.monotonic()
            yield self.position

    @property
    def batches_per_epoch(self) -> int:
        """How many steps an epoch has."""
        return -(-len(self.train.files) // self.recipe.batch_size)

    def _batches(self) -> Iterator[Int64Array]:
        """The rest of the running epoch, in an order that follows from seed and epoch."""
        order = np.random.default_rng([self.recipe.random_seed, self.position.epoch]).permutation(len(self.train.files))
        for batch in range(self.position.batch, self.batches_per_epoch):
            # as even as can be: a last batch of one picture would have nothing to tell it from
            start, stop = (len(order) * n // self.batches_per_epoch for n in (batch, batch + 1))
            yield order[start:stop]

    def _step(self, rows: Int64Array) -> None:
        """One step of AdamW on the pictures of ``rows``."""
        self.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate()
        position = self.position
        loss = self.loss(rows, np.random.default_rng([self.recipe.random_seed, position.epoch, position.batch]))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {position.step}: training has diverged. "
                f"Try a learning_rate below {self.recipe.learning_rate:g}."
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        self._optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(self.recipe.max_logit_scale))  # type: ignore[operator]
        position.batch += 1
        position.step += 1
        position.loss_sum += value * len(rows)
        position.loss_pictures += len(rows)
        position.elapsed_seconds = self._before + time.monotonic() - self._started
        self._maybe_line()

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

    # --- the clock ---------------------------------------------------------------------------------------------------

    def learning_rate(self) -> float:
        """Return the learning rate of now: a linear rise, then half a cosine down to 0."""
        share = self._share_done()
        if share < self.recipe.warmup:
            # never quite 0, so that the first step is one
            return self.recipe.learning_rate * max(share / self.recipe.warmup, 1e-3)
        left = (share - self.recipe.warmup) / (1 - self.recipe.warmup)
        return self.recipe.learning_rate * (1 + math.cos(math.pi * left)) / 2

    def _share_done(self) -> float:
        """How much of the run is over, by steps or by the clock, whichever is further."""
        share = self.position.step / (self.recipe.epochs * self.batches_per_epoch)
        if self.recipe.max_minutes is not None:
            share = max(share, self.position.elapsed_seconds / (60 * self.recipe.max_minutes))
        return min(share, 1.0)

    def _out_of_time(self) -> bool:
        limit = self.recipe.max_minutes
        return limit is not None and self.position.elapsed_seconds >= 60 * limit

    def _maybe_line(self) -> None:
        position = self.position
        if position.elapsed_seconds < self._next_line:
            return
        self._next_line = position.elapsed_seconds + _LINE_SECONDS
        done = position.batch / self.batches_per_epoch
        self._progress(
            f"epoch {position.epoch + 1}/{self.recipe.epochs} ({done:.0%}): "
            f"loss {position.loss_sum / position.loss_pictures:.4f}, {self._rate():,.0f} pictures/s"
        )

    def _rate(self) -> float:
        done = self.position.step * len(self.train.files) / self.batches_per_epoch
        return done / max(self.position.elapsed_seconds, 1e-9)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        """Write the row of an epoch, look at the valid pictures if it is time, and decide whether to go on."""
        position, recipe = self.position, self.recipe
        row: dict[str, Any] = {
            "epoch": position.epoch + position.batch / self.batches_per_epoch,
            "step": position.step,
            "loss": position.loss_sum / max(position.loss_pictures, 1),
            "learning_rate": self.learning_rate(),
            "logit_scale": float(self.model.logit_scale.detach().exp()),  # type: ignore[operator]
            "pictures_per_second": round(self._rate(), 1),
        }
        whole = position.batch == self.batches_per_epoch
        position.epoch, position.batch = position.epoch + int(whole), 0 if whole else position.batch
        position.loss_sum, position.loss_pictures = 0.0, 0
        if position.epoch >= recipe.epochs and not position.stopped:
            position.stopped = f"all {recipe.epochs} epochs are done"
        if position.stopped or position.epoch % recipe.valid_every == 0:
            row |= self._look(row["epoch"])
        position.elapsed_seconds = self._before + time.monotonic() - self._started
        row["elapsed_seconds"] = round(position.elapsed_seconds, 3)
        position.history.append(row)
        valid = f", valid recall@1 {row['valid_recall_at_1']:.4f}" if "valid_recall_at_1" in row else ""
        line = f"epoch {row['epoch']:g}/{recipe.epochs}: loss {row['loss']:.4f}{valid}, {self._rate():,.0f} pictures/s"
        self._progress(line + (f", {position.stopped}" if position.stopped else ""))
        logger.info("%s", line)

    def _look(self, epoch: float) -> dict[str, float]:
        """Measure recall of the valid pictures' most specific captions; keep the model if it is the best so far."""
        position = self.position
        if self.valid is None or self._valid_pixels is None or self._valid_captions is None:
            self._keep(epoch)  # nothing to choose by: the last is the best
            return {}
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
        if recall >= position.best_recall:
            position.best_recall = recall
            self._keep(epoch)
        return {"valid_recall_at_1": recall, **found}

    def _keep(self, epoch: float) -> None:
        self.position.best_epoch = epoch
        self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

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

    # --- saving ------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that a checkpoint needs."""
        groups = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimiser": optimiser_tensors(self._optimiser),
        }
        return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}

    def document(self) -> dict[str, Any]:
        """Return everything else that a checkpoint needs."""
        return {"position": asdict(self.position), "data": self._data_digest}

    def load(self, checkpoint: Checkpoint, path: Any) -> None:
        """Continue where a checkpoint was written.

        Raises:
            TrainingError: it is of other pictures or another model.
        """
        if checkpoint.document["data"] != self._data_digest:
            raise TrainingError(f"{path}: the pictures have changed since this run began; start a new run on them")
        load_model(self.model, checkpoint.part("model"), path)
        load_optimiser(self._optimiser, checkpoint.part("optimiser"))
        self.best = checkpoint.part("best")
        self.position = Position(**checkpoint.document["position"])
