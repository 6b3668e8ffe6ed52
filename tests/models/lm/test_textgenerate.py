import pytest
import torch

from attendgen.models.lm.textgenerate import TextGenerateLanguageModel

VOCAB_SIZE, ROWS, TIME = 9, 3, 12


def run_published(
    model: TextGenerateLanguageModel, inputs: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Compute as published: one character per call of a bidirectional `nn.LSTM`, with attention over one position."""
    sizes = 2 * model.lstm.num_layers, len(inputs), model.lstm.hidden_size
    state = (torch.zeros(sizes), torch.zeros(sizes))
    logits = []
    for character in inputs.unbind(1):
        output, state = model.lstm(model.encoder(character).unsqueeze(1), state)
        directions = []
        for direction in output.chunk(2, dim=-1):
            alpha = (direction @ direction.transpose(1, 2)).softmax(dim=-1)
            directions.append(alpha @ direction)
        logits.append(model.out(model.decoder(torch.cat(directions, dim=-1)))[:, 0])
    return torch.stack(logits, dim=1), state


@pytest.fixture(params=[1, 2, 3])
def model(request) -> TextGenerateLanguageModel:
    model = TextGenerateLanguageModel(VOCAB_SIZE, hidden=7, layers=request.param)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)  # so that the gates are far from linear
    return model


def test_whole_texts_equal_the_published_computation(model):
    inputs = torch.randint(VOCAB_SIZE, (ROWS, TIME))
    expected, (hidden, cell) = run_published(model, inputs)
    logits, alphas, state = model.read(inputs, model.initial_state(ROWS))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(state.hidden.transpose(0, 1), hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(state.cell.transpose(0, 1), cell, atol=1e-5, rtol=0)
    assert alphas.shape == (ROWS, TIME, 0)


def test_gradients_equal_those_of_the_published_computation(model):
    inputs = torch.randint(VOCAB_SIZE, (ROWS, TIME))
    run_published(model, inputs)[0].square().sum().backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    model.read(inputs, model.initial_state(ROWS))[0].square().sum().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-4)
