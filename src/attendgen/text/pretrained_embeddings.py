"""Pretrained word embeddings from a text file, such as GloVe's: a word and its numbers per line."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from attendgen.text.protocol import VocabularyProtocol
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

log = logging.getLogger(__name__)


class PretrainedEmbeddings:
    """Initialize the embeddings of the words that a file holds; the others stay random.

    Args:
        file: UTF-8 text, `word number number ...` per line; a first line of two counts (word2vec) is skipped.
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
            raise UserError(f"{self.file}: none of the vocabulary's {len(vocabulary)} words is in it")
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
            with self.file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    word, *numbers = line.rstrip().split(" ")
                    if number == 1 and len(numbers) == 1:
                        continue
                    index = ids.get(word)
                    if index is None:
                        continue
                    if len(numbers) != dim:
                        sizes = f"{len(numbers)} numbers for {word!r}, but model.embedding_dim={dim}"
                        raise UserError(f"{self.file}: line {number}: {sizes}")
                    found[index] = torch.tensor([float(part) for part in numbers])
        except OSError as error:
            raise UserError(f"{self.file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.file}: not UTF-8; convert the file to UTF-8") from error
        except ValueError as error:
            raise UserError(f"{self.file}: line {number}: not a word and its numbers") from error
        return found
