"""Pretrained word vectors from a text file, as GloVe's: a word and its numbers a line."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from attendgen.errors import UserError
from attendgen.vocabulary import Vocabulary

log = logging.getLogger(__name__)


class WordVectors:
    """Gives the words that a file knows their vectors; the others keep their random ones.

    Args:
        file: UTF-8 text, `word number number ...` a line; a first line of two counts (word2vec's) is passed over.
        frozen: the vectors from the file stay as they are, those of other words are learnt.
    """

    def __init__(self, file: str, frozen: bool = False) -> None:
        self.file = Path(file)
        self.frozen = frozen

    def fill(self, embedding: nn.Embedding, vocabulary: Vocabulary) -> int:
        """Write the vectors into an embedding of this vocabulary; returns how many words were found.

        Raises:
            UserError: the file is missing or no text, a line is no vector of the embedding's size, or no word is known.
        """
        found = self.read(vocabulary, embedding.embedding_dim)
        if not found:
            raise UserError(f"{self.file}: none of the vocabulary's {len(vocabulary)} words is in it")
        rows = torch.tensor(sorted(found))
        with torch.no_grad():
            embedding.weight[rows] = torch.stack([found[row] for row in rows.tolist()]).to(embedding.weight)
        log.info("%s: vectors of %d of %d words", self.file, len(found), len(vocabulary))
        if self.frozen:
            learnt = torch.ones(len(vocabulary), 1)
            learnt[rows] = 0.0
            embedding.weight.register_hook(lambda gradient: gradient * learnt.to(gradient))
        return len(found)

    def read(self, vocabulary: Vocabulary, dim: int) -> dict[int, Tensor]:
        """The vectors of the vocabulary's words, by id."""
        found: dict[int, Tensor] = {}
        try:
            with self.file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    word, *numbers = line.rstrip().split(" ")
                    if number == 1 and len(numbers) == 1:
                        continue
                    index = vocabulary.ids.get(word)
                    if index is None or index < len(vocabulary.specials):
                        continue
                    if len(numbers) != dim:
                        sizes = f"{len(numbers)} numbers for {word!r}, but model.embedding={dim}"
                        raise UserError(f"{self.file}: line {number}: {sizes}")
                    found[index] = torch.tensor([float(part) for part in numbers])
        except OSError as error:
            raise UserError(f"{self.file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.file}: not UTF-8; convert the file to UTF-8") from error
        except ValueError as error:
            raise UserError(f"{self.file}: line {number}: not a word and its numbers") from error
        return found
