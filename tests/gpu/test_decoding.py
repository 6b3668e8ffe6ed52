"""Decoding on a GPU gives the outputs of a CPU."""

import pytest
import torch

from helpers.decoded_families import DECODED, MODES, decode_peaked
from helpers.families import make_training

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", DECODED)
def test_outputs_are_those_of_a_cpu(name: str, mode: str, device: str) -> None:
    training = make_training(name, DECODED)
    expected, found = (decode_peaked(training, MODES[mode], where) for where in ("cpu", device))
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-2, atol=1e-2)
