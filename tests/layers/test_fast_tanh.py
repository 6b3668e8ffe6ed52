import pytest
import torch

from attendgen.layers.fast_tanh import fast_tanh

NEAR = {torch.double: 1e-14, torch.float: 2e-7, torch.bfloat16: 2**-8}


@pytest.mark.parametrize("dtype", NEAR)
def test_fast_tanh_is_tanh(dtype: torch.dtype) -> None:
    values = torch.cat([torch.linspace(-12, 12, 401), torch.tensor([0.0, 1e4, -torch.inf])]).to(dtype)
    found = fast_tanh(values)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), values.double().tanh(), rtol=0, atol=NEAR[dtype])


def test_fast_tanh_has_the_gradient_of_tanh() -> None:
    values = torch.randn(9, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(fast_tanh, values)
