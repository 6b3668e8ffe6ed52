import math
from functools import partial
from pathlib import Path

import lightning
import pytest
import torch

from attendgen.data.batch import StreamBatch
from attendgen.data.novels import NovelDataModule
from attendgen.decoding.search import Search
from attendgen.errors import UserError
from attendgen.layers.attention import General
from attendgen.models.carried_lm import CarriedContextLM
from attendgen.models.causal_lm import CausalLM
from attendgen.models.lm import ContextLM
from attendgen.tasks.lm import Carried, LanguageModelTask
from attendgen.tasks.schedules import Constant
from attendgen.vocabulary import SOS, Vocabulary

TEXTS = ("It was the best of times,\n" * 9, "it was the worst of times." * 4)


@pytest.fixture
def data(tmp_path: Path) -> NovelDataModule:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    return NovelDataModule(str(tmp_path), context=1000, time=7, streams=True, batch_size=3, shares=(1, 1, 1))


def task(model, vocabulary: Vocabulary) -> LanguageModelTask:
    return LanguageModelTask(model, vocabulary, partial(torch.optim.SGD, lr=0.1), Constant(), Search())


def causal(symbols: int, **options) -> CausalLM:
    return CausalLM(symbols, embedding=4, hidden=5, **options)


def carried_context(symbols: int, **options) -> CarriedContextLM:
    return CarriedContextLM(symbols, General, embedding=4, encoder=3, hidden=5, window=10, piece=7, **options)


def silent() -> lightning.Trainer:
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return lightning.Trainer(accelerator="cpu", devices=1, **options)


@pytest.mark.parametrize("make", [causal, carried_context])
@pytest.mark.parametrize("reach", [0, 50])
def test_evaluation_carries_its_state_over_whole_texts(data, monkeypatch, make, reach):
    monkeypatch.setattr(NovelDataModule, "texts", lambda self, split: list(TEXTS))
    vocabulary = data.build_vocabulary()
    model = make(len(vocabulary), reach=reach)
    silent_ = silent()
    silent_.validate(task(model, vocabulary), datamodule=data, verbose=False)
    nats = count = 0
    for text in TEXTS:
        ids = torch.tensor([[SOS, *vocabulary.encode(text)]])
        logits, _, _ = model.eval().read(ids[:, :-1], model.blank(1))
        nats -= logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None]).sum().item()
        count += len(text)
    found = float(silent_.callback_metrics["val/bits_per_character"])
    assert found == pytest.approx(nats / count / math.log(2), abs=1e-5)


@pytest.mark.parametrize("make", [causal, carried_context])
def test_a_fresh_row_begins_anew_and_gradients_stop(make):
    model = make(8).eval()
    inputs, outputs = torch.randint(1, 8, (2, 2, 7)), torch.ones(2, 7, dtype=torch.long)
    carried = Carried()
    carried.read(model, StreamBatch(inputs[0], outputs, torch.tensor([True, True])))
    assert not carried.state.hidden.requires_grad
    logits = carried.read(model, StreamBatch(inputs[1], outputs, torch.tensor([False, True])))
    whole, _, _ = model.read(torch.cat(list(inputs), dim=1), model.blank(2))
    anew, _, _ = model.read(inputs[1], model.blank(2))
    torch.testing.assert_close(logits[0], whole[0, 7:])
    torch.testing.assert_close(logits[1], anew[1])


def test_a_model_of_windows_refuses_streams(data):
    vocabulary = data.build_vocabulary()
    model = ContextLM(len(vocabulary), General, embedding=4, encoder=4, hidden=4)
    with pytest.raises(UserError, match="model=lm_context_carried"):
        silent().validate(task(model, vocabulary), datamodule=data, verbose=False)


def test_a_model_that_carries_refuses_windows(data):
    data.streams, data.context = False, 20
    vocabulary = data.build_vocabulary()
    with pytest.raises(UserError, match="this model reads on"):
        silent().validate(task(carried_context(len(vocabulary)), vocabulary), datamodule=data, verbose=False)
