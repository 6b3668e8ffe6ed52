import torch
from torch import nn

from attendgen.layers.weight_drop import run_lstm


def lstm() -> tuple[nn.LSTM, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    return nn.LSTM(3, 4, 2, batch_first=True), torch.randn(2, 5, 3), (torch.randn(2, 2, 4), torch.randn(2, 2, 4))


def test_nothing_is_dropped_in_evaluation_or_at_share_zero():
    module, inputs, state = lstm()
    expected = module(inputs, state)
    torch.testing.assert_close(run_lstm(module, inputs, state, 0.0), expected)
    torch.testing.assert_close(run_lstm(module.eval(), inputs, state, 0.9), expected)


def test_recurrent_weights_alone_are_dropped():
    module, inputs, state = lstm()
    dropped, _ = run_lstm(module, inputs, state, 1.0)
    with torch.no_grad():
        module.weight_hh_l0.zero_()
        module.weight_hh_l1.zero_()
    torch.testing.assert_close(dropped, module(inputs, state)[0])
    dropped.sum().backward()
    assert not module.weight_hh_l0.grad.any()
    assert module.weight_ih_l1.grad.any()
