"""Pretrained word embeddings from a text file, such as GloVe's: a word and its numbers per line."""

import itertools
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from attendgen.text.protocol import VocabularyProtocol
from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import require_unpacked
from attendgen.utils.special_tokens import EOS, PAD, SOS

FIRST = 20  # lines by which the length of the vectors is checked

log = logging.getLogger(__name__)


class PretrainedEmbeddings:
    """Initialize the embeddings of the words that a file holds; the others stay random.

    Args:
        file: UTF-8 text, `word number number ...` per line. A word may hold blanks, as some of GloVe's do: the last
            numbers are the vector. The first line of a word counts. A first line of two counts (word2vec, fastText) is
            skipped.
        freeze: do not train the vectors from the file; those of other words are trained.
    """

    path_fields = ("file",)

    def __init__(self, file: str, freeze: bool = False) -> None:
        self.file = Path(file)
        self.freeze = freeze

    def initialize(self, embedding: nn.Embedding, vocabulary: VocabularyProtocol) -> int:
        """Write the vectors into an embedding of a vocabulary; return the number of words found.

        Raises:
            UserError: the file is missing or not text, a line is not a vector of the embedding's size, or no word is
                known.
        """
        found = self.read(vocabulary, embedding.embedding_dim)
        if not found:
            raise UserError(
                f"{self.file}: none of the vocabulary's {len(vocabulary)} words is in it; "
                "choose vectors of its language, or another data.normalizer"
            )
        rows = torch.tensor(sorted(found))
        with torch.no_grad():
            embedding.weight[rows] = torch.stack([found[row] for row in rows.tolist()]).to(embedding.weight)
        log.info("%s: vectors of %d of %d words", self.file, len(found), len(vocabulary))
        if self.freeze:
            trained = torch.ones(len(vocabulary), 1)
            trained[rows] = 0.0
            embedding.weight.register_hook(lambda gradient: gradient * trained.to(gradient))
        return len(found)

    def read(self, vocabulary: VocabularyProtocol, dim: int) -> dict[int, Tensor]:
        """Return the vectors of the vocabulary's words, by id."""
        found: dict[int, Tensor] = {}
        specials = {PAD, SOS, EOS, vocabulary.unknown}
        ids = {token: index for index, token in enumerate(vocabulary.tokens) if index not in specials}
        number = 0
        try:
            with self.file.open("rb") as file:
                require_unpacked(self.file, file.read(10))
            with self.file.open(encoding="utf-8-sig", newline="\n") as lines:
                first = list(itertools.islice(lines, FIRST))
                self.require_dim(first, dim)
                for line in itertools.chain(first, lines):
                    number += 1  # read below, where an error ends the loop
                    parts = line.rstrip().split(" ")
                    index = ids.get(" ".join(parts[:-dim]))
                    if index is not None and index not in found:
                        found[index] = torch.tensor([require_finite(float(part)) for part in parts[-dim:]])
        except OSError as error:
            raise UserError(f"{self.file}: {describe_refusal(error)}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.file}: not UTF-8; convert the file to UTF-8") from error
        except ValueError as error:
            raise UserError(f"{self.file}: line {number}: expected a word and its numbers") from error
        return found

    def require_dim(self, lines: Sequence[str], dim: int) -> None:
        """Check that the first lines of the file hold vectors of a length.

        Raises:
            UserError: they are shorter or longer; a word with blanks makes a line look longer.
        """
        counts = [line.rstrip().count(" ") for line in lines]
        if len(counts) > 1 and counts[0] == 1:  # the number of words, and that of numbers
            counts = counts[1:]
        if counts and min(counts) != dim:
            own = min(counts)
            raise UserError(f"{self.file}: vectors of {own} numbers, but model.embedding_dim={dim}; set it to {own}")


def require_finite(number: float) -> float:
    """Return a number.

    Raises:
        ValueError: it is infinite or NaN.
    """
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number
