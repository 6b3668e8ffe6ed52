"""Logits and log-probabilities, also of weights in half precision."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from attendgen.layers.lstm import tie_weights
from attendgen.layers.output import AlignedOutput, OutputLayer


@pytest.mark.parametrize("classes", [5, 16, 33])
def test_aligned_output_is_the_log_softmax_of_its_layer(classes: int) -> None:
    layer, features = nn.Linear(6, classes), torch.randn(4, 6)
    torch.testing.assert_close(AlignedOutput(layer)(features), layer(features).log_softmax(dim=-1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["aligned", "layer"])
@pytest.mark.parametrize("classes", [40, 300])
def test_logits_of_half_precision_weights_are_nearly_those_of_single_precision(classes: int, kind: str) -> None:
    layer, features = OutputLayer(64, classes).bfloat16(), torch.randn(2, 50, 64).bfloat16()
    layer.weight.mul_(20)
    expected = functional.linear(features.float(), layer.weight.float(), layer.bias.float())
    likely = expected.topk(5, dim=-1).indices

    def measure_errors(logits: torch.Tensor) -> torch.Tensor:
        assert logits.dtype == torch.float
        return (logits[..., :classes] - expected).gather(-1, likely).abs()

    found = AlignedOutput(layer).multiply(features) if kind == "aligned" else layer(features)
    plain = functional.linear(features, layer.weight, layer.bias).float()
    assert measure_errors(plain).mean() > 0.01
    assert measure_errors(found).mean() < measure_errors(plain).mean() / 2
    assert (found[..., classes:] == -torch.inf).all()


@pytest.mark.parametrize("change", ["in place", "another parameter", "tied", "state dict", "copy"])
@torch.no_grad()
def test_changed_weights_are_used(change: str) -> None:
    layer, features = OutputLayer(8, 200).bfloat16(), torch.randn(3, 8).bfloat16()
    before = layer(features)
    changed = layer
    if change == "in place":
        layer.bias.add_(1)
    elif change == "another parameter":
        layer.weight = nn.Parameter(2 * layer.weight)
    elif change == "tied":
        tie_weights(layer, nn.Embedding(200, 8).bfloat16())
    elif change == "state dict":
        layer.load_state_dict(OutputLayer(8, 200).state_dict())
    else:
        changed = copy.deepcopy(layer)
        changed.weight.mul_(2)
        torch.testing.assert_close(layer(features), before)
    found = changed(features)
    expected = functional.linear(*(part.float() for part in (features, *changed.parameters())))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert not torch.allclose(found, before, rtol=0, atol=0.5)


def test_a_layer_in_single_precision_or_with_a_gradient_is_linear() -> None:
    layer, features = OutputLayer(8, 200), torch.randn(3, 8)
    expected = functional.linear(features, layer.weight, layer.bias)
    assert layer(features).equal(expected)
    assert layer.bfloat16()(features.bfloat16()).dtype == torch.bfloat16
    assert layer.state_dict().keys() == {"weight", "bias"}


@torch.no_grad()
def test_a_parametrized_weight_is_computed_at_each_call() -> None:
    layer, features = OutputLayer(8, 200).bfloat16(), torch.randn(3, 8).bfloat16()
    nn.utils.parametrizations.weight_norm(layer)
    assert layer(features).equal(functional.linear(features, layer.weight, layer.bias))
    layer.bias = None
    assert layer(features).equal(functional.linear(features, layer.weight))
