"""The loss, decoding and scores of a sequence-to-sequence task."""

import itertools
import math
from functools import partial

import pytest
import torch

from attendgen.data.batch import PairBatch, pad, shift_targets
from attendgen.data.parallel import ParallelDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.layers.attention import AdditiveAttention
from attendgen.models.seq2seq import Seq2Seq
from attendgen.optim.schedules import Constant
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.text.vocabulary import PairVocabulary, Vocabulary

SOURCE, TARGET = Vocabulary("abc", "characters"), Vocabulary("xyz", "characters")


def make(smoothing: float = 0.0, decoding: DecodingConfig | None = None) -> Seq2SeqTask:
    model = Seq2Seq(len(SOURCE), len(TARGET), partial(AdditiveAttention, dim=6), embedding_dim=5, hidden=8)
    vocabulary, optimizer = PairVocabulary(SOURCE, TARGET), partial(torch.optim.SGD, lr=0.1)
    task = Seq2SeqTask(model, vocabulary, optimizer, Constant(), decoding or DecodingConfig(max_length=6), smoothing)
    task.log = lambda *arguments, **options: None  # no trainer here
    return task.eval()


@pytest.fixture
def batch() -> PairBatch:
    """Two pairs of different lengths."""
    sources = [SOURCE.encode(text) for text in ("abca", "b")]
    targets = [TARGET.encode(text) for text in ("xy", "zzyx")]
    return PairBatch(torch.tensor([7, 2]), pad(sources), *shift_targets(targets))


def compute_nll(task: Seq2SeqTask, source: str, target: str, smoothing: float = 0.0) -> float:
    """Return the negative log-likelihood of a target and <eos>, step by step, one pair at a time."""
    memory, state = task.model.encode(torch.tensor([SOURCE.encode(source)]))
    ids, nll = [1, *TARGET.encode(target), 2], 0.0
    for previous, current in itertools.pairwise(ids):
        log_probs, _, state = task.model.step(torch.tensor([previous]), state, memory)
        nll -= ((1 - smoothing) * log_probs[0, current] + smoothing * log_probs[0].mean()).item()
    return nll


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_training_loss_is_the_mean_over_all_tokens(batch, smoothing):
    task = make(smoothing)
    expected = compute_nll(task, "abca", "xy", smoothing) + compute_nll(task, "b", "zzyx", smoothing)
    assert task.training_step(batch, 0).item() == pytest.approx(expected / (3 + 5), rel=1e-5)


def test_nll_is_summed_without_label_smoothing(batch):
    task = make(smoothing=0.2)
    nll, tokens = task.nll(batch)
    assert int(tokens) == 8
    assert nll.item() == pytest.approx(compute_nll(task, "abca", "xy") + compute_nll(task, "b", "zzyx"), rel=1e-5)


def test_samples_do_not_depend_on_the_batch(batch):
    task = make(decoding=DecodingConfig(max_length=6, temperature=1.0, seed=3))
    together = task.generate(batch).tokens
    alone = [task.generate(PairBatch(*(part[row : row + 1] for part in batch[:4]))).tokens for row in range(2)]
    for row, tokens in enumerate(alone):
        assert together[row, 0, : tokens.size(2)].tolist() == tokens[0, 0].tolist()


def test_validation_collects_outputs_by_index_and_scores_normalized_references(batch, tmp_path):
    task = make()
    (tmp_path / "pairs.tsv").write_text("abca\tC'est Noël\nb\tzzyx\n", encoding="utf-8")
    data = ParallelDataModule(str(tmp_path / "pairs.tsv"), target_normalizer="letters")
    vocabulary = data.build_vocabulary()
    task.vocabulary = PairVocabulary(SOURCE, vocabulary.target)
    task.texts = {0: "cest nol", 1: "x"}
    logged = {}
    task._trainer = type("Trainer", (), {"datamodule": data, "barebones": False})()
    task.log_scores = lambda scores, shown=(): logged.update(scores)
    task.bits.update(torch.tensor(4.0), torch.tensor(2))
    task.on_validation_epoch_end()
    assert logged["exact_match"] == 0.5
    assert logged["cross_entropy"] == pytest.approx(2.0)


def test_decoded_texts_are_stored_by_the_index_of_their_pair(batch):
    task = make()
    task.on_validation_epoch_start()
    task.validation_step(batch, 0)
    decoded = task.generate(batch).tokens[:, 0].tolist()
    assert task.texts == {7: TARGET.decode(decoded[0]), 2: TARGET.decode(decoded[1])}


def test_unknown_targets_are_counted_and_bound_the_perplexity(tmp_path):
    task = make()
    task.on_validation_epoch_start()
    index, rows = torch.tensor([0, 1]), [TARGET.encode("xé"), TARGET.encode("zzyx")]
    task.validation_step(PairBatch(index, pad([[4], [5]]), *shift_targets(rows)), 0)
    (tmp_path / "pairs.tsv").write_text("a\txé\nb\tzzyx\n", encoding="utf-8")
    data = ParallelDataModule(str(tmp_path / "pairs.tsv"))
    task._trainer = type("Trainer", (), {"datamodule": data, "barebones": False})()
    logged = {}
    task.log_scores = lambda scores, shown=(): logged.update(scores)
    task.on_validation_epoch_end()
    assert logged["unknown_tokens"] == pytest.approx(1 / 8)  # with two <eos>
    bits = math.log2(logged["perplexity"]) + 8 * 3 / 8  # two bytes of é and its end, over eight tokens
    assert task.score_outputs() == {"perplexity_bound": pytest.approx(2**bits, rel=1e-5)}
