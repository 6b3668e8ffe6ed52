"""A tiny task of every family with a batch of its training, for checks that all families must pass."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attendgen.data.batch import (
    Batch,
    CaptionBatch,
    PairBatch,
    StreamBatch,
    TableBatch,
    WindowBatch,
    count_targets,
    shift_targets,
)
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import Decoded
from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.hard_attention import CategoricalSampler, SemiSampler
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.records import RecordEncoder
from attendgen.layers.row_attention import RowAttention
from attendgen.layers.state import map_tensors
from attendgen.layers.tables import Cells
from attendgen.losses.score_function import LeaveOneOutEstimator, MovingAverageBaseline, SoftBaselineEstimator
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.models.lm.transformer import TransformerLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.models.table_to_text import TableToText
from attendgen.models.transformer import TransformerSeq2Seq
from attendgen.models.transformer_captioner import TransformerCaptioner
from attendgen.tasks.base import BaseTask
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.hard_attention import HardAttentionTask, HardTableTask
from attendgen.tasks.language_model import LanguageModelTask
from attendgen.tasks.rewards import make_reward
from attendgen.tasks.self_critical import SelfCriticalTask
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.tasks.table_to_text import TableTask
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.text.vocabulary import PairVocabulary, Vocabulary
from attendgen.utils.special_tokens import EOS, PAD

WORDS = ["a", "red", "blue", "square", "on", "the", "wall"]
LETTERS = list("abcdefghij .")
FIRST = 4  # id of the first token that is not special
REGIONS, FEATURES = 9, 8  # of an image
TRANSFORMER = {"dim": 8, "heads": 2, "feed_forward": 12}


class Training(NamedTuple):
    """A task in training mode, and a batch for its training step."""

    task: BaseTask[Any]
    batch: Any


Family = Callable[..., Training]  # given the probability of dropout and the number of target tokens


class TurnSampler:
    """Choose each row's locations in turn, so that the same ones are chosen on any device and in any precision."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, alpha: Tensor) -> Tensor:
        self.calls += 1
        rows = alpha[..., 0].numel()
        chosen = (5 * torch.arange(rows, device=alpha.device) + self.calls) % alpha.size(-1)
        return nn.functional.one_hot(chosen, alpha.size(-1)).to(alpha.dtype).view_as(alpha)


def draw_tokens(*shape: int, vocab_size: int) -> Tensor:
    """Return random ids that are not special."""
    return torch.randint(FIRST, vocab_size, shape)


def make_task(kind: type[BaseTask[Any]], model: nn.Module, vocabulary: Any, batch: Batch, **settings: Any) -> Training:
    """Return a task in training mode that logs nothing, with the totals that a collated batch has."""
    optimizer, decoding = partial(torch.optim.Adam, lr=1e-2), DecodingConfig(max_length=6)
    task: Any = kind(model, vocabulary, optimizer, lambda step: 1.0, decoding, **settings)
    task.log = lambda *arguments, **options: None  # no trainer here
    return Training(task.train(), batch._replace(totals=count_targets(batch.outputs)))


def make_captions(vocab_size: int, length: int, images: Tensor) -> CaptionBatch:
    """Return a batch of three captions per image, of which one is shorter and one is missing."""
    rows = draw_tokens(2, 3, length - 1, vocab_size=vocab_size)
    given = [row.tolist() for row in rows.flatten(0, 1)]
    inputs, outputs = (part.unflatten(0, (2, 3)) for part in shift_targets([given[0][:-2], *given[1:5], None]))
    return CaptionBatch(torch.arange(2), images, inputs, outputs)


def make_captioner(
    kind: type[CaptioningTask] = CaptioningTask,
    model: str = "lstm",
    pixels: bool = False,
    estimator: Callable[[], Any] | None = None,
    dropout: float = 0.0,
    length: int = 6,
    features: int = FEATURES,
    inference_attention: str = "soft",
    **settings: Any,
) -> Training:
    """Return the training of a captioner."""
    vocabulary = Vocabulary(WORDS, "caption")
    encoder = SmallCNN((4, features), size=12, freeze=not pixels)  # a grid of 3 x 3
    dropouts = {"word_dropout": dropout, "memory_dropout": dropout, "dropout": dropout}
    made: nn.Module = (
        TransformerCaptioner(len(vocabulary), encoder, layers=2, region_layers=1, tied=True, **TRANSFORMER, **dropouts)
        if model == "transformer"
        else Captioner(
            len(vocabulary),
            encoder,
            partial(AdditiveAttention, dim=5),
            embedding_dim=6,
            hidden=7,
            inference_attention=inference_attention,
            **dropouts,
        )
    )
    bytes_ = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    images = bytes_ if pixels else torch.randn(2, REGIONS, features)
    if estimator is not None:
        settings["estimator"] = estimator()
    return make_task(kind, made, vocabulary, make_captions(len(vocabulary), length, images), **settings)


def make_self_critical(baseline: str = "leave_one_out", given_samples: bool = False, **settings: Any) -> Training:
    """Return self-critical training.

    Args:
        given_samples: train on the same captions whatever the model draws.
    """
    training = make_captioner(SelfCriticalTask, baseline=baseline, samples=3, **settings)
    task: Any = training.task
    references = {0: ["a red square on the wall"], 1: ["a blue wall", "the square"]}
    task.reward = make_reward(references, task.vocabulary)
    if given_samples:
        tokens = draw_tokens(2, 3, 5, vocab_size=len(task.vocabulary))
        tokens[:, 0, 3], tokens[:, 0, 4], tokens[:, 1, 4] = EOS, PAD, EOS
        given = Decoded(tokens, torch.zeros(2, 3), torch.zeros(2, 3, 5), torch.rand(2, 3, 5, REGIONS))
        task._decode = lambda memory, *rest: map_tensors(
            lambda part: part.to(memory.values.device, non_blocking=True), given
        )
    return training


def make_pairs(model: Callable[..., nn.Module], length: int = 6, **settings: Any) -> Training:
    """Return the training of a sequence-to-sequence model on sources and targets of different lengths."""
    vocabulary = PairVocabulary(Vocabulary(LETTERS), Vocabulary(WORDS, "words"))
    sizes = vocabulary.sizes()
    source = draw_tokens(4, 7, vocab_size=len(LETTERS))
    source[1, 5:], source[2, 1:] = PAD, PAD
    rows = [row.tolist() for row in draw_tokens(4, length - 1, vocab_size=len(WORDS))]
    inputs, outputs = shift_targets([rows[0], rows[1][:-2], *rows[2:]])
    batch = PairBatch(torch.arange(4), source, inputs, outputs)
    return make_task(Seq2SeqTask, model(**sizes, **settings), vocabulary, batch, label_smoothing=0.1)


def make_table(
    model: Callable[..., nn.Module],
    length: int = 6,
    estimator: Callable[[], Any] | None = None,
    **settings: Any,
) -> Training:
    """Return the training of a model that writes about tables of different sizes."""
    target = Vocabulary(WORDS, "words")
    vocabulary = TableVocabulary(["shape", "color"], ["wall"], WORDS, target, words=2)
    # as many cells as recorded steps pad to, so that hard attention draws the same numbers
    kinds = torch.tensor([[2, 2, 3, 2], [3, 2, 2, 0], [2, 3, 0, 0]])
    real = kinds.clamp(max=1)
    values = torch.randint(2, 2 + len(WORDS), kinds.shape) * real
    rows = torch.tensor([[1, 1, 2, 3], [1, 2, 2, 0], [1, 2, 0, 0]])
    cells = Cells(kinds, 2 * real, values, real, rows, (values + FIRST - 2) * real)
    texts = [row.tolist() for row in draw_tokens(3, length - 1, vocab_size=len(target))]
    batch = TableBatch(torch.arange(3), cells, *shift_targets([texts[0], texts[1][:-2], texts[2]]))
    made = model(**vocabulary.sizes(), **settings)
    if estimator is not None:
        return make_task(HardTableTask, made, vocabulary, batch, estimator=estimator())
    return make_task(TableTask, made, vocabulary, batch, label_smoothing=0.1, switch_weight=0.1)


def make_language_model(
    model: Callable[..., nn.Module], streams: bool = True, length: int = 6, **settings: Any
) -> Training:
    """Return the training of a language model on streams or on windows with contexts of different lengths."""
    vocabulary = Vocabulary(LETTERS)
    text = draw_tokens(4, length + 1, vocab_size=len(vocabulary))
    inputs, outputs = text[:, :-1].contiguous(), text[:, 1:].contiguous()
    if streams:
        batch: Batch = StreamBatch(inputs, outputs, torch.tensor([True, False, True, False]))
    else:
        context = draw_tokens(4, 7, vocab_size=len(vocabulary))
        context[1, 4:], context[2] = PAD, PAD
        batch = WindowBatch(context, inputs, outputs)
    return make_task(LanguageModelTask, model(len(vocabulary), **settings), vocabulary, batch)


SMALL = {"embedding_dim": 6, "hidden": 8}
BOTH_WAYS = partial(Seq2Seq, encoder_hidden=5, bidirectional=True, **SMALL)
FEEDING = partial(LuongDecoder, input_feeding=True)
PARALLEL = partial(LuongDecoder, input_feeding=False)
LM = partial(LSTMLanguageModel, **SMALL)
RECORDS = partial(RecordEncoder, dim=6, embedding_dim=4, content_selection=True)
TABLES = partial(TableToText, encoder=RECORDS, attention=RowAttention, copy="mixture", **SMALL)
IN_ORDER = partial(RecordEncoder, dim=6, embedding_dim=4, recurrent=True)

# soft attention first; each is called with `dropout` and `length`
FAMILIES: dict[str, Family] = {
    "captioner": make_captioner,
    "captioner, pixels": partial(make_captioner, pixels=True),
    "captioner, transformer": partial(make_captioner, model="transformer"),
    "captioner, moving baseline": partial(
        make_captioner, HardAttentionTask, estimator=lambda: MovingAverageBaseline(SemiSampler())
    ),
    "captioner, leave one out": partial(
        make_captioner, HardAttentionTask, estimator=lambda: LeaveOneOutEstimator(CategoricalSampler(), num_samples=2)
    ),
    "captioner, soft baseline": partial(
        make_captioner, HardAttentionTask, estimator=lambda: SoftBaselineEstimator(CategoricalSampler())
    ),
    "captioner, self-critical": make_self_critical,
    "captioner, self-critical, hard": partial(make_self_critical, inference_attention="sample", baseline="greedy"),
    "seq2seq, bahdanau": partial(make_pairs, partial(BOTH_WAYS, attention=partial(AdditiveAttention, dim=5))),
    "seq2seq, one-way encoder": partial(make_pairs, partial(Seq2Seq, attention=DotAttention, **SMALL)),
    "seq2seq, luong": partial(make_pairs, partial(BOTH_WAYS, attention=GeneralAttention, decoder=PARALLEL, tied=True)),
    "seq2seq, luong, input feeding": partial(
        make_pairs, partial(BOTH_WAYS, attention=GeneralAttention, decoder=FEEDING)
    ),
    "seq2seq, transformer": partial(
        make_pairs, partial(TransformerSeq2Seq, encoder_layers=1, decoder_layers=2, tied=True, **TRANSFORMER)
    ),
    "table": partial(make_table, TABLES),
    "table, joint copying": partial(
        make_table, partial(TableToText, encoder=IN_ORDER, attention=GeneralAttention, copy="joint", **SMALL)
    ),
    "table, soft baseline": partial(
        make_table,
        partial(TABLES, decoder=BahdanauDecoder),
        estimator=lambda: SoftBaselineEstimator(CategoricalSampler()),
    ),
    "lm, lstm": partial(make_language_model, partial(LM, tied=True)),
    "lm, attention window": partial(make_language_model, partial(LM, attention_window=4, attention_dim=5)),
    "lm, ngrams": partial(make_language_model, partial(LM, layers=2, ngrams=3, ngram_rows=16)),
    "lm, windows": partial(make_language_model, LM, streams=False),
    "lm, context": partial(
        make_language_model,
        partial(ContextLanguageModel, attention=GeneralAttention, encoder_hidden=5, **SMALL),
        streams=False,
    ),
    "lm, textgenerate": partial(
        make_language_model, lambda *sizes, dropout=0.0: TextGenerateLanguageModel(*sizes, hidden=6)
    ),
    "lm, transformer": partial(
        make_language_model, partial(TransformerLanguageModel, layers=2, window=4, **TRANSFORMER)
    ),
}

# families whose training step draws random numbers even without dropout, with what makes it the same on any device
WITHOUT_CHANCE: dict[str, Family] = {
    **FAMILIES,
    "captioner, moving baseline": partial(
        make_captioner, HardAttentionTask, estimator=lambda: MovingAverageBaseline(TurnSampler())
    ),
    "captioner, leave one out": partial(
        make_captioner, HardAttentionTask, estimator=lambda: LeaveOneOutEstimator(TurnSampler(), num_samples=2)
    ),
    "captioner, soft baseline": partial(
        make_captioner, HardAttentionTask, estimator=lambda: SoftBaselineEstimator(TurnSampler())
    ),
    "captioner, self-critical": partial(make_self_critical, given_samples=True),
    "table, soft baseline": partial(
        make_table,
        partial(TABLES, decoder=BahdanauDecoder),
        estimator=lambda: SoftBaselineEstimator(TurnSampler()),
    ),
    "captioner, self-critical, hard": partial(make_self_critical, given_samples=True, inference_attention="sample"),
}


def make_training(name: str, families: dict[str, Family] = FAMILIES, **settings: Any) -> Training:
    """Return the training of a family, always with the same weights and batch; without dropout unless given."""
    torch.manual_seed(1)
    return families[name](**{"dropout": 0.0, **settings})


def move(training: Training, device: torch.device | str, dtype: torch.dtype | None = None) -> Training:
    """Return a copy on a device, with its floating-point numbers in another precision if one is given."""
    task: Any = copy.deepcopy(training.task).to(device=device, dtype=dtype)

    def convert(part: Tensor) -> Tensor:
        return part.to(device, dtype if part.is_floating_point() else None)

    return Training(task, keep_index(training.batch, map_tensors(convert, training.batch)))


def keep_index(before: Batch, moved: Batch) -> Batch:
    """Return a batch that was moved, with the indices of its examples where they were, as a data module moves it."""
    return moved._replace(index=before.index) if "index" in before._fields else moved


def compute_gradients(
    training: Training, device: str, dtype: torch.dtype | None = None, loss_scale: float = 1.0
) -> Tensor:
    """Return the gradients of all weights of a training step, side by side.

    A language model that keeps its state along a text makes two steps.

    Args:
        dtype: of autocast; None computes in the precision of the weights.
        loss_scale: the loss is multiplied by it before the gradients are computed, so that none vanishes in float16.
    """
    task, batch = training
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False):
        loss = task.training_step(batch, 0)
        if isinstance(batch, StreamBatch):
            loss = loss + task.training_step(batch._replace(reset=~batch.reset), 1)
    (loss * loss_scale).backward()
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in task.parameters() if w.requires_grad]
    return torch.cat([gradient.cpu().double().flatten() for gradient in gradients]) / loss_scale
