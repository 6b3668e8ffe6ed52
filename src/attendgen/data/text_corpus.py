"""Text corpora: each file split contiguously, read as windows of context and continuation or as streams."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.utils.data import DataLoader

from attendgen.data.corpus_cache import CorpusCache, count_characters, encode_text
from attendgen.data.loader import (
    BatchSizes,
    choose_batch_size,
    get_rank,
    make_batch_loader,
    require_positive,
    require_probability,
)
from attendgen.data.module import SPLITS, BaseDataModule, canonical_split
from attendgen.data.streams import Streams, StreamSampler, collate_chunks
from attendgen.data.windows import Windows, WindowSampler, collate
from attendgen.text.levels import make_tokenizer
from attendgen.text.normalizers import NORMALIZERS
from attendgen.text.protocol import Tokenizer, VocabularyProtocol
from attendgen.text.tokenizers import LevelTokenizer
from attendgen.text.vocabulary import Vocabulary, count_characters_of_tokens
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text

log = logging.getLogger(__name__)


def find_text_files(root: str | Path) -> list[Path]:
    """Return the `.txt` files of a folder by name, or the one file that `root` is.

    Raises:
        UserError: there is none.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    files = sorted(path for path in root.glob("*") if path.suffix.lower() == ".txt")
    if not files:
        raise UserError(f"{root}: no .txt file; data.root names a text file or a folder of them")
    return files


def split_text(text: str, ratios: Sequence[int | float]) -> dict[str, str]:
    """Split a text contiguously, in order, in proportion to `ratios`."""
    ends = [round(len(text) * sum(ratios[: i + 1]) / sum(ratios)) for i in range(len(ratios))]
    return {name: text[start:end] for name, start, end in zip(SPLITS, [0, *ends], ends, strict=False)}


def require_split_ratios(ratios: object) -> None:
    """Check the setting `data.split_ratios`.

    Raises:
        UserError: it is not three numbers above 0.
    """
    numbers = list(ratios) if isinstance(ratios, Sequence) and not isinstance(ratios, str) else []
    valid = all(isinstance(n, int | float) and not isinstance(n, bool) and 0 < n < math.inf for n in numbers)
    if len(numbers) != len(SPLITS) or not valid:
        raise UserError(f"data.split_ratios={ratios}: give three positive numbers, such as [90,5,5]")


class TextDataModule(BaseDataModule[VocabularyProtocol]):
    """Text files, each split contiguously into training, validation and test parts.

    Args:
        root: a text file or a folder of `.txt` files.
        context_len: tokens read before a continuation; of streams, before the first token that is predicted in an
            evaluation.
        seq_len: tokens of continuation, or of a stream's chunk.
        stateful: read contiguous streams, for models that keep their state from batch to batch, instead of windows.
        split_ratios: relative sizes of the three parts, in characters.
        normalizer: one of `text.normalizers.NORMALIZERS`.
        min_frequency: rarer characters become <unk>.
        batch_size: windows per batch, or streams read side by side on each device.
        eval_batch_size: windows or streams in an evaluation; `batch_size` unless given.
        global_batch_size: windows or streams of a training step, over all devices and accumulated batches, in place of
            `batch_size`.
        short_context_prob: probability that a training batch has shorter contexts.
        level: "characters", "bpe" or "unigram".
        vocab_size: number of subwords, special tokens included.
        tokenizer: one of the user's own, in place of the level's.
        encoding: of the files; None is UTF-8.
        cache: a folder where the encoded texts are kept and memory-mapped; None encodes them at each start.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        root: str,
        context_len: int = 128,
        seq_len: int = 128,
        stateful: bool = False,
        split_ratios: Sequence[int | float] = (90, 5, 5),
        normalizer: str = "none",
        min_frequency: int = 3,
        batch_size: int = 32,
        short_context_prob: float = 0.1,
        cache: str | None = None,
        workers: int | str = 0,
        seed: int = 0,
        level: str = "characters",
        vocab_size: int | None = None,
        tokenizer: Tokenizer | None = None,
        encoding: str | None = None,
        eval_batch_size: int | None = None,
        global_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        require_positive(seq_len=seq_len)
        require_positive(least=0, context_len=context_len)
        require_probability(short_context_prob=short_context_prob)
        require_split_ratios(split_ratios)
        self.root = root
        self.context_len = context_len
        self.seq_len = seq_len
        self.stateful = stateful
        self.split_ratios = split_ratios
        if normalizer not in NORMALIZERS:
            raise UserError(f"data.normalizer={normalizer}: unknown; choose one of {', '.join(NORMALIZERS)}")
        self.normalizer = normalizer
        # words would lose the line breaks, which the text is to be predicted with
        self.tokenizer = make_tokenizer(level, vocab_size, tokenizer, min_frequency, levels=("characters",))
        self.min_frequency = min_frequency
        self.sizes = BatchSizes(batch_size, eval_batch_size, global_batch_size)
        self.short_context_prob = short_context_prob
        self.cache = cache
        self.encoding = encoding
        self.workers = workers
        self.seed = seed
        self.sets: dict[str, Windows] = {}

    def normalize(self, text: str) -> str:
        """Return a text as the vocabulary sees it, whose length is what windows are cut from."""
        return NORMALIZERS[self.normalizer](text)

    def texts(self, split: str) -> list[str]:
        """Return a split's part of each file.

        Raises:
            UserError: see `read_parts`.
        """
        split = canonical_split(split)
        if split not in SPLITS:
            raise UserError(f"split {split!r}: unknown; choose train, val or test")
        return self.read_parts()[split]

    def read_parts(self) -> dict[str, list[str]]:
        """Return each split's part of each file.

        Raises:
            UserError: a file is missing, in another encoding, or shorter than one window in one of its parts.
        """
        parts: dict[str, list[str]] = {name: [] for name in SPLITS}
        for path in find_text_files(self.root):
            texts = split_text(self.normalize(read_text(path, self.encoding)), self.split_ratios)
            self.require_lengths({name: len(part) for name, part in texts.items()}, path)
            for name, part in texts.items():
                parts[name].append(part)
        return parts

    def require_lengths(self, lengths: dict[str, int], path: Path) -> None:
        """Check that a file's parts, which have these numbers of tokens, can be used.

        Raises:
            UserError: one is empty, or the training part shorter than one window.
        """
        needed = self.seq_len + 1 if self.stateful else self.context_len + self.seq_len + 1
        if lengths["train"] < needed:
            unit = "chunk" if self.stateful else "window"
            counted = "characters" if self.is_by_character else "tokens"
            raise UserError(
                f"{path}: {sum(lengths.values())} {counted} are too few: the training part has {lengths['train']}, "
                f"one {unit} needs {needed}; lower data.context_len and data.seq_len"
            )
        for name, length in lengths.items():
            if not length:
                raise UserError(f"{path}: the {name} part is empty; see data.split_ratios")

    def open_cache(self) -> CorpusCache | None:
        """Return the cache of these files, if there is one."""
        settings = (self.normalizer, list(self.split_ratios), self.encoding)
        return None if self.cache is None else CorpusCache(self.cache, find_text_files(self.root), settings)

    @property
    def is_by_character(self) -> bool:
        """Whether the tokens are characters."""
        return isinstance(self.tokenizer, LevelTokenizer)

    def build_vocabulary(self) -> VocabularyProtocol:
        """Return the vocabulary of the training parts.

        Raises:
            UserError: see `texts`.
        """
        if not self.is_by_character:
            self.vocabulary = Vocabulary.build(
                self.texts("train"),
                normalizer=self.normalizer,
                min_frequency=self.min_frequency,
                tokenizer=self.tokenizer,
            )
            return self.vocabulary
        cache = self.open_cache()

        def count() -> Any:
            return count_characters(self.texts("train"))

        counts = cache.counts(count) if cache else count()
        self.vocabulary = Vocabulary.from_counts(counts, "characters", self.normalizer, self.min_frequency)
        return self.vocabulary

    def encode(self, texts: Sequence[str]) -> Windows:
        """Return windows over texts that are normalized already."""
        vocabulary = self.require_vocabulary()
        encoded = [encode_text(text, vocabulary) for text in texts]
        read, written = sum(map(len, texts)), sum(map(self.count_characters, encoded))
        if read != written:
            log.warning(
                "the tokens of a text of %d characters have %d: bits per character count those of the tokens, so that "
                "another tokenizer's cannot be compared with them",
                read,
                written,
            )
        return Windows(encoded, self.context_len, self.seq_len)

    def count_characters(self, text: Integer[Tensor, " tokens"]) -> int:
        """Return the number of characters that the tokens of a text stand for."""
        lengths = torch.tensor(count_characters_of_tokens(self.require_vocabulary()))
        return int((text.long().bincount(minlength=len(lengths)) * lengths).sum())

    def dataset(self, split: str) -> Windows:
        """Return a split's windows.

        Raises:
            UserError: see `texts`.
        """
        split = canonical_split(split)
        if split not in self.sets:
            cache = self.open_cache()
            if cache is None or split not in SPLITS:
                self.sets[split] = self.encode(self.texts(split))
                if split == "train":
                    self._require_windows(self.sets[split].texts)
            else:
                self.sets[split] = Windows(self._read_cache(cache)[split], self.context_len, self.seq_len)
        return self.sets[split]

    def _require_windows(self, texts: Sequence[Integer[Tensor, " _tokens"]]) -> None:
        for path, text in zip(find_text_files(self.root), texts, strict=True):
            self.require_lengths({"train": len(text)}, path)

    def _read_cache(self, cache: CorpusCache) -> Any:
        vocabulary = self.require_vocabulary()
        parts = cache.parts(
            vocabulary, lambda: {part: self.encode(texts).texts for part, texts in self.read_parts().items()}
        )
        for path, *texts in zip(find_text_files(self.root), *parts.values(), strict=True):
            self.require_lengths(dict(zip(parts, map(len, texts), strict=True)), path)
        return parts

    def count_inputs(self, split: str) -> dict[str, int]:
        """Return the number of characters of a split, and of those that the vocabulary lacks."""
        texts = self.dataset(split).texts
        unknown = self.require_vocabulary().unknown
        return {
            "characters": sum(map(self.count_characters, texts)),
            "unknown_characters": 0 if unknown is None else sum(int((text == unknown).sum()) for text in texts),
        }

    def read_files(self, paths: Sequence[str | Path]) -> None:
        """Make the split "text" of whole files.

        Raises:
            UserError: a file is missing, empty or in another encoding.
        """
        vocabulary = self.require_vocabulary()
        texts = []
        for path in paths:
            text = vocabulary.normalize(read_text(path, self.encoding))
            if not text:
                normalizer = vocabulary.normalizer
                raise UserError(f"{path}: empty file, or nothing left after data.normalizer={normalizer}")
            texts.append(text)
        self.sets["text"] = self.encode(texts)

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        """Return batches of windows or of streams' chunks: for training, or every character once in order."""
        data = self.dataset(split)
        size, options = choose_batch_size(self, self.sizes, shuffle), (self.seed, shuffle)
        if self.stateful:
            streams = Streams(data.texts)
            chunks = StreamSampler(streams, size, self.seq_len, self.context_len, *options, *get_rank(self))
            return make_batch_loader(self, streams, chunks, collate_chunks, shuffle, self.workers, self.seed)
        windows = WindowSampler(data, size, *options, self.short_context_prob, *get_rank(self))
        return make_batch_loader(self, data, windows, collate, shuffle, self.workers, self.seed)
