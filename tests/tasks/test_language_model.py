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
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.optim.schedules import Constant
from attendgen.tasks.language_model import LanguageModelTask, RecurrentState
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import SOS

TEXTS = ("It was the best of times,\n" * 9, "it was the worst of times." * 4)


@pytest.fixture
def data(tmp_path: Path) -> TextDataModule:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    return TextDataModule(
        str(tmp_path), context_len=1000, seq_len=7, stateful=True, batch_size=3, split_ratios=(1, 1, 1)
    )


def task(model, vocabulary: Vocabulary) -> LanguageModelTask:
    return LanguageModelTask(model, vocabulary, partial(torch.optim.SGD, lr=0.1), Constant(), DecodingConfig())


def causal(symbols: int, **options) -> LSTMLanguageModel:
    return LSTMLanguageModel(symbols, embedding_dim=4, hidden=5, **options)


def silent() -> lightning.Trainer:
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return lightning.Trainer(accelerator="cpu", devices=1, **options)


@pytest.mark.parametrize("reach", [0, 50])
def test_evaluation_carries_its_state_over_whole_texts(data, monkeypatch, reach):
    monkeypatch.setattr(TextDataModule, "texts", lambda self, split: list(TEXTS))
    vocabulary = data.build_vocabulary()
    model = causal(len(vocabulary), attention_window=reach)
    silent_ = silent()
    silent_.validate(task(model, vocabulary), datamodule=data, verbose=False)
    nats = count = 0
    for text in TEXTS:
        ids = torch.tensor([[SOS, *vocabulary.encode(text)]])
        logits, _, _ = model.eval().read(ids[:, :-1], model.initial_state(1))
        nats -= logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None]).sum().item()
        count += len(text)
    found = float(silent_.callback_metrics["val/bits_per_character"])
    assert found == pytest.approx(nats / count / math.log(2), abs=1e-5)


def test_a_fresh_row_begins_anew_and_gradients_stop():
    model = causal(8).eval()
    inputs, outputs = torch.randint(1, 8, (2, 2, 7)), torch.ones(2, 7, dtype=torch.long)
    carried = RecurrentState()
    carried.read(model, StreamBatch(inputs[0], outputs, torch.tensor([True, True])))
    assert not carried.state.hidden.requires_grad
    logits = carried.read(model, StreamBatch(inputs[1], outputs, torch.tensor([False, True])))
    whole, _, _ = model.read(torch.cat(list(inputs), dim=1), model.initial_state(2))
    anew, _, _ = model.read(inputs[1], model.initial_state(2))
    torch.testing.assert_close(logits[0], whole[0, 7:])
    torch.testing.assert_close(logits[1], anew[1])


def test_a_model_of_windows_refuses_streams(data):
    vocabulary = data.build_vocabulary()
    model = ContextLanguageModel(len(vocabulary), GeneralAttention, embedding_dim=4, encoder_hidden=4, hidden=4)
    with pytest.raises(UserError, match="model=lm_lstm"):
        silent().validate(task(model, vocabulary), datamodule=data, verbose=False)
