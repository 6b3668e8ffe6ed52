"""Dynamic evaluation equals gradient descent on each chunk, written out."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from attendgen.data.text_corpus import TextDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import StatefulModel
from attendgen.evaluation.dynamic import measure_dynamic_bits
from attendgen.layers.attention import GeneralAttention
from attendgen.layers.state import map_tensors
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.optim.schedules import Constant
from attendgen.tasks.language_model import LanguageModelTask
from attendgen.utils.special_tokens import SOS
from helpers.errors import refusal

TEXTS = ("abcabcabcabcabcabc", "abcacbacb")
SEQ_LEN = 6

SMALL = {"embedding_dim": 4, "hidden": 5, "dropout": 0.5}
MODELS = {
    "streams": partial(LSTMLanguageModel, **SMALL),
    "windows": partial(ContextLanguageModel, attention=GeneralAttention, encoder_hidden=3, **SMALL),
}


@pytest.fixture(params=MODELS)
def setting(request, tmp_path: Path) -> tuple[LanguageModelTask, TextDataModule]:
    (tmp_path / "a.txt").write_text("abc" * 100)
    data = TextDataModule(
        str(tmp_path), context_len=4, seq_len=SEQ_LEN, stateful="streams" in request.param, batch_size=1
    )
    model = MODELS[request.param](len(data.build_vocabulary()))
    data.sets["text"] = data.encode(TEXTS)
    data.eval_split = "text"
    assert data.vocabulary is not None
    task = LanguageModelTask(model, data.vocabulary, partial(torch.optim.SGD, lr=0.1), Constant(), DecodingConfig())
    return task, data


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_each_chunk_is_scored_by_weights_adapted_to_the_chunks_before(setting, decay):
    task, data = setting
    model, trained = task.model.eval(), {name: w.clone() for name, w in task.model.state_dict().items()}
    nll = 0.0
    for text in TEXTS:
        model.load_state_dict(trained)
        ids, state = torch.tensor([data.vocabulary.encode(text)]), None
        read = torch.cat([torch.tensor([[SOS]]), ids[:, :-1]], dim=1)
        for start in range(0, len(text), SEQ_LEN):
            inputs, outputs = read[:, start : start + SEQ_LEN], ids[:, start : start + SEQ_LEN]
            if isinstance(model, StatefulModel):
                logits, _, state = model.read(inputs, model.initial_state(1) if state is None else state)
                state = map_tensors(torch.Tensor.detach, state)
            else:
                context = ids[:, max(0, start - 4) : start]
                logits, _ = model(context if start else torch.zeros(1, 1, dtype=torch.long), inputs)
            loss = -logits.log_softmax(dim=-1).gather(2, outputs.unsqueeze(-1)).mean()
            nll += loss.item() * outputs.size(1)
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    step = 0 if weight.grad is None else 0.5 * weight.grad
                    weight.copy_(weight + decay * (trained[name] - weight) - step)
    model.load_state_dict(trained)
    expected = nll / sum(map(len, TEXTS)) / math.log(2)
    assert measure_dynamic_bits(task, data.val_dataloader(), 0.5, decay) == pytest.approx(expected, abs=1e-5)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, trained[name])  # the trained weights are restored


@pytest.mark.parametrize(("rate", "decay"), [(0.0, 0.0), (math.nan, 0.0), (0.1, 1.0), (0.1, -0.1)])
def test_learning_rate_or_decay_out_of_range_is_refused(setting, rate, decay):
    task, data = setting
    option = "--dynamic-decay" if rate == 0.1 else "--dynamic-eval-lr"
    assert option in refusal(measure_dynamic_bits, task, data.val_dataloader(), rate, decay)
