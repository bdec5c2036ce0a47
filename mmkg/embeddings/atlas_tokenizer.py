"""The tokenizer of small CLIPs such as the bundled one: whole words of a short list, and letters for every other word.

CLIP's own byte-pair vocabulary has 49,408 rows, which alone would be six times the bundled model. Here a line of
``vocabulary.txt`` is a token, and its number, from 0, is the token's id: ``<pad>``, ``<unknown>``, characters as they
begin a word (``a``), characters as they go on with one (``##a``), words, ``<start>``, ``<end>``. The end has the
highest id, since that is where open_clip reads a text's vector (``pool_type`` "argmax").

>>> split_words("Côte d'Ivoire, 2 stars")
['cote', 'd', "'", 'ivoire', ',', '2', 'stars']
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.errors import EmbeddingError

if TYPE_CHECKING:
    from torch import Tensor

VOCABULARY = "vocabulary.txt"
OPEN_CLIP_CONFIG = "open_clip_config.json"
PAD, UNKNOWN, START, END = "<pad>", "<unknown>", "<start>", "<end>"
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-'():;/&"
_CONTINUED = "##"
_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]")


class AtlasTokenizer:
    """Called with texts, returns their token ids; no text is refused.

    Attributes:
        tokens: of the vocabulary, by id.
        context_length: ids in a row.
        digest: of vocabulary and context length, 16 hex digits.
    """

    def __init__(self, folder: Path | str) -> None:
        """Read the vocabulary and the context length of a model's folder.

        Args:
            folder: holds ``vocabulary.txt`` and ``open_clip_config.json``.

        Raises:
            EmbeddingError: one of them is missing or is not what it should be.
        """
        folder = Path(folder)
        try:
            tokens = (folder / VOCABULARY).read_text(encoding="utf-8").split("\n")[:-1]
            context_length = json.loads((folder / OPEN_CLIP_CONFIG).read_text())["model_cfg"]["text_cfg"][
                "context_length"
            ]
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise EmbeddingError(f"{folder}: not a model with a vocabulary of words: {error!r}") from error
        self._set(tokens, context_length, str(folder / VOCABULARY))

    @classmethod
    def of(cls, tokens: Sequence[str], context_length: int) -> "AtlasTokenizer":
        """Return the tokenizer of a vocabulary that is in no folder yet.

        Raises:
            EmbeddingError: a token is there twice, or a special one is not where it belongs.
        """
        tokenizer = cls.__new__(cls)
        tokenizer._set(tokens, context_length, "vocabulary")
        return tokenizer

    def _set(self, tokens: Sequence[str], context_length: int, where: str) -> None:
        ends = (tokens[0], tokens[1], tokens[-2], tokens[-1]) if len(tokens) >= 4 else ()
        if ends != (PAD, UNKNOWN, START, END) or len(set(tokens)) < len(tokens):
            raise EmbeddingError(
                f"{where}: expected {PAD}, {UNKNOWN} first and {START}, {END} last, every token once; found {ends}"
            )
        if context_length < 3:
            raise EmbeddingError(f"{where}: a context of {context_length} ids has no room for a word")
        self.tokens = tuple(tokens)
        self.context_length = context_length
        self._ids = {token: number for number, token in enumerate(tokens)}
        self.digest = hashlib.sha256("\n".join([*tokens, str(context_length)]).encode()).hexdigest()[:16]

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> "Tensor":
        """Return token ids, (texts, context_length) of int64: start, tokens, end, padding.

        A text that is too long is cut and still has its end.
        """
        import torch

        length = context_length or self.context_length
        rows = torch.zeros((1 if isinstance(texts, str) else len(texts), length), dtype=torch.long)
        for row, text in zip(rows, [texts] if isinstance(texts, str) else texts, strict=True):
            ids = [self._ids[START], *self.encode(text)[: length - 2], self._ids[END]]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's tokens, without start and end, however long."""
        ids = []
        for word in split_words(text):
            pieces = [word] if word in self._ids else [word[0], *(_CONTINUED + character for character in word[1:])]
            ids += [self._ids.get(piece, self._ids[UNKNOWN]) for piece in pieces]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of ids with spaces between them, without start, end and padding."""
        text = ""
        for token in (self.tokens[number] for number in ids):
            if token.startswith(_CONTINUED) and token != _CONTINUED:
                text += token.removeprefix(_CONTINUED)
            elif token not in (PAD, START, END):
                text += f" {token}"
        return text.removeprefix(" ")


def split_words(text: str) -> list[str]:
    """Return a text's words, digits and signs, in lower case and without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return _WORD.findall(plain)


def make_vocabulary(texts: Iterable[str], size: int) -> list[str]:
    """Return the tokens of a vocabulary for texts: all characters, and the most frequent words that fit.

    Args:
        texts: such as captions.
        size: tokens at most.

    Raises:
        EmbeddingError: there is no room for characters and special tokens.
    """
    fixed = [PAD, UNKNOWN, *_CHARACTERS, *(_CONTINUED + character for character in _CHARACTERS if character.isalnum())]
    if size < len(fixed) + 2:
        raise EmbeddingError(f"a vocabulary needs at least {len(fixed) + 2} tokens; found {size}")
    counts = Counter(word for text in texts for word in split_words(text) if len(word) > 1)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return [*fixed, *sorted(ordered[: size - len(fixed) - 2]), START, END]
