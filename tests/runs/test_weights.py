"""Weights in 16, 8 or 4 bits: rounding errors, file sizes, and weights of another model."""

import copy

import pytest
import torch
from torch import nn

from attendgen.runs.weights import load_weights, save_weights
from helpers.errors import refusal


class Tied(nn.Module):
    """A model whose output layer shares the weights of its embedding."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, size, padding_idx=0)
        self.lstm = nn.LSTM(size, 4)
        self.output = nn.Linear(size, 7)
        self.output.weight = self.embedding.weight
        self.register_buffer("steps", torch.tensor(3))


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_are_restored_within_half_a_step(tmp_path, bits):
    model, other = Tied(), Tied()
    save_weights(model, tmp_path / "weights.safetensors", bits)
    load_weights(other, tmp_path / "weights.safetensors")
    assert other.output.weight is other.embedding.weight
    for name, value in model.state_dict().items():
        found = other.state_dict()[name]
        if bits == 8 and value.ndim == 2:
            step = value.abs().amax(dim=1, keepdim=True) / 127
            assert ((found - value).abs() <= step * 0.501 + value.abs() * 1e-3).all()  # and rounding to half precision
            assert found[value.abs().sum(dim=1) == 0].eq(0).all()
            assert not torch.equal(found, value)
        else:
            assert torch.equal(found, value.half().to(value.dtype))


@pytest.mark.parametrize("bits", [8, 16])
def test_chosen_matrices_have_four_bits(tmp_path, bits):
    model = nn.ModuleDict(
        {"tables": nn.ModuleList([nn.Embedding(30, 6), nn.Embedding(20, 4)]), "output": nn.Linear(6, 5)}
    )
    with torch.no_grad():
        model["tables"][1].weight[3] = 0
    other = copy.deepcopy(model).apply(lambda module: module.reset_parameters() if hasattr(module, "weight") else None)
    save_weights(model, tmp_path / "weights.safetensors", bits, r"^tables\.")
    load_weights(other, tmp_path / "weights.safetensors")
    for table, found in zip(model["tables"], other["tables"], strict=True):
        step = table.weight.abs().amax(dim=1, keepdim=True) / 7
        assert ((found.weight - table.weight).abs() <= step * 0.501 + table.weight.abs() * 1e-3).all()
        multiples = found.weight / step.masked_fill(step == 0, 1.0)
        torch.testing.assert_close(multiples, multiples.round(), atol=5e-3, rtol=0)
        assert multiples.abs().amax(dim=1).round().eq(7).sum() == (step > 0).sum()
    step = model["output"].weight.abs().amax(dim=1, keepdim=True) / (127 if bits == 8 else 1000)
    assert ((other["output"].weight - model["output"].weight).abs() <= step).all()


def test_matrices_that_cannot_have_four_bits_are_refused(tmp_path):
    for pattern, words in (("tables", "finds no matrix"), ("embedding", "embedding.weight has 5 columns")):
        message = refusal(save_weights, Tied(), tmp_path / "weights.safetensors", 8, pattern)
        assert f"--four-bits {pattern}: {words}" in message
    assert not list(tmp_path.iterdir())


def test_file_size_is_proportional_to_the_bits(tmp_path):
    model = nn.Linear(400, 400)
    sizes = []
    for bits, four_bits in ((4, "weight"), (8, None), (16, None)):
        save_weights(model, tmp_path / f"{bits}.safetensors", bits, four_bits)
        sizes.append((tmp_path / f"{bits}.safetensors").stat().st_size)
    assert sizes[0] < 0.52 * sizes[1] < 0.52**2 * sizes[2] * 1.01


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_of_another_model_are_refused(tmp_path, bits):
    save_weights(Tied(), tmp_path / "weights.safetensors", bits)
    more = nn.ModuleDict({"more": nn.Linear(2, 2), **dict(Tied().named_children())})
    for other in (Tied(size=6), nn.Linear(5, 7), more):
        with pytest.raises(RuntimeError):
            load_weights(other, tmp_path / "weights.safetensors")
