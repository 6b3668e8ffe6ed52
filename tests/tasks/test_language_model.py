"""Evaluation and training of language models on streams: the state passes from chunk to chunk."""

import math
from functools import partial
from pathlib import Path

import lightning
import pytest
import torch

from attendgen.data.batch import StreamBatch
from attendgen.data.text_corpus import TextDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.layers.attention import GeneralAttention
from attendgen.layers.state import iterate_tensors, map_tensors
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.optim.schedules import Constant
from attendgen.tasks.language_model import LanguageModelTask, RecurrentState
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.special_tokens import SOS
from helpers.errors import refusal
from helpers.pretended_gpu import pretend

TEXTS = ("It was the best of times,\n" * 9, "it was the worst of times." * 4)


@pytest.fixture
def data(tmp_path: Path) -> TextDataModule:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    return TextDataModule(
        str(tmp_path), context_len=1000, seq_len=7, stateful=True, batch_size=3, split_ratios=(1, 1, 1)
    )


def make_task(model, vocabulary: Vocabulary) -> LanguageModelTask:
    return LanguageModelTask(model, vocabulary, partial(torch.optim.SGD, lr=0.1), Constant(), DecodingConfig())


def make_lstm(vocab_size: int, **options) -> LSTMLanguageModel:
    return LSTMLanguageModel(vocab_size, embedding_dim=4, hidden=5, **options)


def make_trainer() -> lightning.Trainer:
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return lightning.Trainer(accelerator="cpu", devices=1, **options)


@pytest.mark.parametrize("window", [0, 50])
def test_evaluation_passes_the_state_through_whole_texts(data, monkeypatch, window):
    monkeypatch.setattr(TextDataModule, "texts", lambda self, split: list(TEXTS))
    vocabulary = data.build_vocabulary()
    model = make_lstm(len(vocabulary), attention_window=window)
    trainer = make_trainer()
    trainer.validate(make_task(model, vocabulary), datamodule=data, verbose=False)
    nll = count = 0
    for text in TEXTS:
        ids = torch.tensor([[SOS, *vocabulary.encode(text)]])
        logits, _, _ = model.eval().read(ids[:, :-1], model.initial_state(1))
        nll -= logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None]).sum().item()
        count += len(text)
    found = float(trainer.callback_metrics["val/bits_per_character"])
    assert found == pytest.approx(nll / count / math.log(2), abs=1e-5)


def test_reset_rows_start_from_the_initial_state_and_gradients_stop():
    model = make_lstm(8).eval()
    inputs, outputs = torch.randint(1, 8, (2, 2, 7)), torch.ones(2, 7, dtype=torch.long)
    recurrent = RecurrentState()
    recurrent.read(model, StreamBatch(inputs[0], outputs, torch.tensor([True, True])))
    assert not any(tensor.requires_grad for tensor in iterate_tensors(recurrent.state))
    logits, _ = recurrent.read(model, StreamBatch(inputs[1], outputs, torch.tensor([False, True])))
    whole, _, _ = model.read(torch.cat(list(inputs), dim=1), model.initial_state(2))
    anew, _, _ = model.read(inputs[1], model.initial_state(2))
    torch.testing.assert_close(logits[0], whole[0, 7:])
    torch.testing.assert_close(logits[1], anew[1])


def test_model_that_reads_windows_refuses_streams(data):
    vocabulary = data.build_vocabulary()
    model = ContextLanguageModel(len(vocabulary), GeneralAttention, embedding_dim=4, encoder_hidden=4, hidden=4)
    task = make_task(model, vocabulary)
    ids = torch.ones(2, 3, dtype=torch.long)
    recorded = refusal(task.get_carried, StreamBatch(ids, ids, torch.tensor([True, True])))
    message = refusal(make_trainer().validate, task, datamodule=data, verbose=False)
    assert message == recorded
    assert "data.stateful=true: this model reads windows; use model=lm_lstm" in message


def test_exported_state_is_restored():
    model = make_lstm(8, attention_window=3).eval()
    first, second = torch.randint(1, 8, (2, 2, 7))
    one, other = RecurrentState(), RecurrentState()
    assert one.export() is None
    one.read(model, StreamBatch(first, first, torch.tensor([True, True])))
    other.restore(one.export(), model)
    later = StreamBatch(second, second, torch.tensor([False, False]))
    torch.testing.assert_close(other.read(model, later), one.read(model, later), rtol=0, atol=0)


def test_a_state_on_a_gpu_is_exported_from_the_cpu():
    recurrent = RecurrentState()
    recurrent.state = map_tensors(pretend, make_lstm(8).initial_state(2))
    assert {part.device.type for part in iterate_tensors(recurrent.state)} == {"cuda"}
    assert {part.device.type for part in recurrent.export()} == {"cpu"}
