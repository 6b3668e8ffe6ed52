"""Random tokens, vocabularies and batches of all kinds."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attendgen.data.batch import CaptionBatch, PairBatch, StreamBatch, TableBatch, WindowBatch
from attendgen.layers.tables import Cells
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.text.vocabulary import AnyVocabulary, PairVocabulary, Vocabulary
from attendgen.utils.special_tokens import SOS

CAPTIONS = 5  # per image
NOISE = 0.2  # share of tokens that do not follow from the token before
KINDS, ENTITIES = 20, 300  # of the cells of tables
PER_ROW = 10  # cells of a table
SIZES = {
    "captions": (2546,),
    "pixels": (20,),
    "pairs": (5900, 6500),
    "tables": (2400,),
    "windows": (116,),
    "streams": (116,),
}
LEVELS = {"captions": "caption", "pixels": "caption", "pairs": "words", "tables": "words"}  # of others: characters


def make_vocabulary_of(kind: str, quick: bool) -> AnyVocabulary:
    """Return a vocabulary of made-up words, or characters, for batches of a kind."""
    parts = []
    for size in SIZES[kind]:
        count = min(size, 30) if quick else size
        tokens = spell_words(count) if kind in LEVELS else [chr(256 + i) for i in range(count)]
        parts.append(Vocabulary(tokens, LEVELS.get(kind, "characters")))
    if kind == "tables":
        words = parts[0].tokens[4:]  # all but the special ones
        return TableVocabulary(spell_words(KINDS), spell_words(ENTITIES), words, parts[0], words=3)
    return PairVocabulary(parts[1], parts[0]) if kind == "pairs" else parts[0]


def spell_words(count: int) -> list[str]:
    """Return different words of three letters or more."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    digits = max(3, math.ceil(math.log(count + 1, 26)))
    return ["".join(letters[i // 26**place % 26] for place in range(digits)) for i in range(count)]


def draw_tokens(shape: tuple[int, ...], size: int, generator: torch.Generator) -> Tensor:
    """Draw tokens, most of which follow from the token before them, so that a model can learn them."""
    noise = torch.randint(4, size, shape, generator=generator)
    is_noise = torch.rand(shape, generator=generator) < NOISE
    columns = [noise[..., 0]]
    for t in range(1, shape[-1]):
        follows = (5 * columns[-1] + 7) % (size - 4) + 4
        columns.append(torch.where(is_noise[..., t], noise[..., t], follows))
    return torch.stack(columns, dim=-1)


def _shift(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return decoder inputs that begin with <sos>, and outputs."""
    return torch.cat([torch.full_like(tokens[..., :1], SOS), tokens[..., :-1]], dim=-1), tokens


def _make_captions(family: Any, vocabulary: Any, rows: int, generator: torch.Generator) -> CaptionBatch:
    captions = 1 if family.kind == "pixels" else CAPTIONS
    tokens = draw_tokens((rows, captions, family.length), len(vocabulary), generator)
    if family.kind == "pixels":
        images = torch.randint(0, 256, (rows, 3, 64, 64), dtype=torch.uint8, generator=generator)
    else:
        images = torch.randn(rows, family.regions, family.dim, generator=generator)
    return CaptionBatch(torch.arange(rows), images, *_shift(tokens))


def _make_pairs(family: Any, vocabulary: Any, rows: int, generator: torch.Generator) -> PairBatch:
    source = draw_tokens((rows, family.length), len(vocabulary.source), generator)
    source[rows // 2 :, family.length - 2 :] = 0  # padding, as in all real batches
    target = draw_tokens((rows, family.length), len(vocabulary.target), generator)
    return PairBatch(torch.arange(rows), source, *_shift(target))


def _make_windows(family: Any, vocabulary: Any, rows: int, generator: torch.Generator) -> WindowBatch:
    context = min(64, family.length)
    tokens = draw_tokens((rows, context + family.length), len(vocabulary), generator)
    return WindowBatch(tokens[:, :context], tokens[:, context - 1 : -1], tokens[:, context:])


def _make_streams(family: Any, vocabulary: Any, rows: int, generator: torch.Generator) -> StreamBatch:
    tokens = draw_tokens((rows, family.length + 1), len(vocabulary), generator)
    return StreamBatch(tokens[:, :-1], tokens[:, 1:], torch.zeros(rows, dtype=torch.bool))


def _make_tables(family: Any, vocabulary: Any, rows: int, generator: torch.Generator) -> TableBatch:
    def draw(size: int) -> Tensor:
        return torch.randint(2, size, (rows, family.regions), generator=generator)

    kinds, entities = draw(len(vocabulary.kinds)), draw(len(vocabulary.entities))
    values, places = draw(len(vocabulary.values)), torch.randint(1, 4, kinds.shape, generator=generator)
    row_of = (1 + torch.arange(family.regions) // PER_ROW).expand_as(kinds)
    # the words are those of the texts, but only half of the cells can be copied
    copies = torch.where(torch.rand(kinds.shape, generator=generator) < 0.5, values + 2, 0)
    real = torch.ones_like(kinds)
    real[rows // 2 :, family.regions - 2 :] = 0  # padding, as in all real batches
    cells = Cells(*(part * real for part in (kinds, entities, values, places, row_of, copies)))
    tokens = draw_tokens((rows, family.length), len(vocabulary.target), generator)
    return TableBatch(torch.arange(rows), cells, *_shift(tokens))


MAKERS: dict[str, Callable[..., Any]] = {
    "captions": _make_captions,
    "pixels": _make_captions,
    "pairs": _make_pairs,
    "tables": _make_tables,
    "windows": _make_windows,
    "streams": _make_streams,
}
