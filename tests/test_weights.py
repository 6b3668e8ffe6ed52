"""Small files of weights: near enough, whole, and of this model alone."""

import pytest
import torch
from torch import nn

from attendgen.weights import load_weights, save_weights


class Tied(nn.Module):
    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, size, padding_idx=0)
        self.lstm = nn.LSTM(size, 4)
        self.output = nn.Linear(size, 7)
        self.output.weight = self.embedding.weight
        self.register_buffer("steps", torch.tensor(3))


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_come_back_within_half_a_step(tmp_path, bits):
    model, other = Tied(), Tied()
    save_weights(model, tmp_path / "weights.safetensors", bits)
    load_weights(other, tmp_path / "weights.safetensors")
    assert other.output.weight is other.embedding.weight
    for name, value in model.state_dict().items():
        found = other.state_dict()[name]
        if bits == 8 and value.ndim == 2:
            step = value.abs().amax(dim=1, keepdim=True) / 127
            assert ((found - value).abs() <= step * 0.501 + value.abs() * 1e-3).all()  # and a half's rounding
            assert found[value.abs().sum(dim=1) == 0].eq(0).all()
            assert not torch.equal(found, value)
        else:
            assert torch.equal(found, value.half().to(value.dtype))


def test_eight_bits_take_half_the_room(tmp_path):
    model = nn.Linear(400, 400)
    for bits in (8, 16):
        save_weights(model, tmp_path / f"{bits}.safetensors", bits)
    sizes = [(tmp_path / f"{bits}.safetensors").stat().st_size for bits in (8, 16)]
    assert sizes[0] < 0.52 * sizes[1]


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_of_another_model_are_refused(tmp_path, bits):
    save_weights(Tied(), tmp_path / "weights.safetensors", bits)
    more = nn.ModuleDict({"more": nn.Linear(2, 2), **dict(Tied().named_children())})
    for other in (Tied(size=6), nn.Linear(5, 7), more):
        with pytest.raises(RuntimeError):
            load_weights(other, tmp_path / "weights.safetensors")
