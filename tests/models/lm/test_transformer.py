import pytest
import torch
from torch import nn

from attendgen.layers.transformer import TransformerEncoder
from attendgen.models.ensemble import StatefulEnsemble
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.transformer import TransformerLanguageModel
from attendgen.utils.special_tokens import PAD
from helpers.errors import refusal
from helpers.stepping import assert_several_reads_equal_one

VOCAB_SIZE, ROWS, TIME = 8, 2, 9
OPTIONS = {"dim": 8, "heads": 2, "feed_forward": 6}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randint(1, VOCAB_SIZE, (ROWS, TIME))


def run_as_encoder(model: TransformerLanguageModel, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits of the same layers as an encoder of the whole text, with a band as mask."""
    encoder = TransformerEncoder(8, 2, len(model.attentions), 6)
    encoder.attentions, encoder.feed_forwards, encoder.norm = model.attentions, model.feed_forwards, model.norm
    distance = torch.arange(TIME).unsqueeze(1) - torch.arange(TIME)
    band = (distance >= 0) & (distance <= model.window)

    def set_band(layer: nn.Module, arguments: tuple, options: dict) -> tuple:
        return arguments, {**options, "mask": band[None, None]}

    hooks = [layer.register_forward_pre_hook(set_band, with_kwargs=True) for layer in encoder.attentions]
    logits = model.output(encoder(model.embedding(inputs), None))
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize("window", [1, 3, 20])
def test_it_is_a_stack_of_layers_in_which_a_token_sees_its_window(inputs, window):
    model = TransformerLanguageModel(VOCAB_SIZE, layers=2, window=window, **OPTIONS).eval()
    logits, _, _ = model.read(inputs, model.initial_state(ROWS))
    torch.testing.assert_close(logits, run_as_encoder(model, inputs), **CLOSE)


def test_a_token_depends_on_one_window_per_layer(inputs):
    model = TransformerLanguageModel(VOCAB_SIZE, layers=2, window=2, **OPTIONS).eval()
    logits, _, _ = model.read(inputs, model.initial_state(ROWS))
    changed = inputs.clone()
    changed[:, 0] = changed[:, 0] % (VOCAB_SIZE - 1) + 1
    other, _, _ = model.read(changed, model.initial_state(ROWS))
    moved = (other - logits).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == [True] * 5 + [False] * (TIME - 5)


def test_a_long_text_costs_a_state_of_the_same_size(inputs):
    model = TransformerLanguageModel(VOCAB_SIZE, layers=1, window=3, **OPTIONS).eval()
    text = torch.randint(1, VOCAB_SIZE, (ROWS, 200))
    _, _, state = model.read(text, model.initial_state(ROWS))
    assert state.layers[0].keys.shape == (ROWS, 2, 3, 4)
    assert_several_reads_equal_one(model, text, (1, 6, 7, 86, 100))


def test_attention_weights_are_those_of_the_tokens_before(inputs):
    window = 5  # the text is one chunk
    model = TransformerLanguageModel(VOCAB_SIZE, layers=1, window=window, **OPTIONS).eval()
    seen: list[torch.Tensor] = []
    model.attentions[0].attention.register_forward_hook(lambda module, given, out: seen.append(out[1]))
    _, alphas, _ = model.read(inputs, model.initial_state(ROWS))
    (weights,) = seen  # rows time window+time
    for t in range(TIME):
        for slot in range(window):
            torch.testing.assert_close(alphas[:, t, slot], weights[:, t, t + slot])
    own = weights[:, torch.arange(TIME), window + torch.arange(TIME)]
    torch.testing.assert_close(alphas.sum(dim=-1) + own, torch.ones(ROWS, TIME))
    assert not alphas[:, 0].any(), "nothing is before the first token"


def test_padding_is_not_attended_to(inputs):
    model = TransformerLanguageModel(VOCAB_SIZE, layers=2, window=4, **OPTIONS).eval()
    _, _, state = model.read(torch.full((ROWS, 3), PAD), model.initial_state(ROWS))
    after, alphas, _ = model.read(inputs, state)
    expected, weights, _ = model.read(inputs, model.initial_state(ROWS))
    torch.testing.assert_close((after, alphas), (expected, weights), **CLOSE)


def test_an_ensemble_may_hold_an_lstm_and_a_transformer(inputs):
    lstm = LSTMLanguageModel(VOCAB_SIZE, embedding_dim=5, hidden=6).eval()
    transformer = TransformerLanguageModel(VOCAB_SIZE, window=3, **OPTIONS).eval()
    pair = StatefulEnsemble([lambda: lstm, lambda: transformer]).eval()
    logits, alphas, _ = pair.read(inputs, pair.initial_state(ROWS))
    parts = [model.read(inputs, model.initial_state(ROWS)) for model in (lstm, transformer)]
    mean = sum(part[0].log_softmax(dim=-1) for part in parts) / 2
    torch.testing.assert_close(logits, mean.log_softmax(dim=-1), **CLOSE)
    torch.testing.assert_close(alphas, parts[1][1], **CLOSE)


@pytest.mark.parametrize(("name", "value"), [("layers", 0), ("window", 0), ("heads", 3)])
def test_impossible_sizes_are_refused(name, value):
    assert f"{name}={value}" in refusal(TransformerLanguageModel, VOCAB_SIZE, **{**OPTIONS, name: value})
