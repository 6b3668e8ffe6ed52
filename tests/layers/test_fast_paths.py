"""A fast path is not taken where a subclass, a hook or another module changed what it computes."""

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from attendgen.layers.fast_paths import are_products, is_unchanged, stands_for


class Base:
    def plain(self):
        return 1

    def other(self):
        return 1

    def fast(self):
        return 1


class OwnPlain(Base):
    def plain(self):
        return 2


class OwnBoth(OwnPlain):
    def fast(self):
        return 2


class OwnOther(OwnBoth):
    def other(self):
        return 3


@pytest.mark.parametrize(("kind", "expected"), [(Base, True), (OwnPlain, False), (OwnBoth, True), (OwnOther, False)])
def test_fast_methods_hold_until_a_subclass_defines_a_plain_one_alone(kind, expected):
    assert stands_for(kind(), "fast", "plain", "other") is expected


def test_methods_of_an_instance_count():
    layer = Base()
    layer.plain = lambda: 2  # type: ignore[method-assign]
    assert not stands_for(layer, "fast", "plain")
    layer.fast = lambda: 2  # type: ignore[method-assign]
    assert stands_for(layer, "fast", "plain")
    assert not stands_for(layer, "missing", "other")


class Scaled(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


class Named(nn.Linear):
    """Another class that calls as its base."""


def make_hooked() -> nn.Linear:
    layer = nn.Linear(2, 3)
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    return layer


def make_patched() -> nn.Linear:
    layer = nn.Linear(2, 3)
    layer.forward = lambda inputs: inputs  # type: ignore[method-assign,assignment]
    return layer


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(2, 3), True),
        (Named(2, 3), True),
        (parametrizations.weight_norm(nn.Linear(2, 3)), True),
        (nn.Linear(2, 3, bias=False), False),
        (Scaled(2, 3), False),
        (make_hooked(), False),
        (make_patched(), False),
        (nn.Sequential(nn.Linear(2, 3)), False),
    ],
)
def test_products_are_linear_layers_and_nothing_else(layer, expected):
    assert are_products([None, layer], bias=True) is expected


def test_a_hook_is_forgotten_when_it_is_removed():
    layer = nn.LSTM(2, 3)
    assert is_unchanged(layer, nn.LSTM)
    hook = layer.register_forward_pre_hook(lambda module, inputs: None)
    assert not is_unchanged(layer, nn.LSTM)
    hook.remove()
    assert is_unchanged(layer, nn.LSTM)
