"""What training steps and decoding steps that are recorded share."""

import torch

from attendgen.layers.graphs import copy_tensors
from helpers.pretended_gpu import pretend, pretended_gpu


def test_tensors_of_each_device_are_copied_by_one_operation() -> None:
    with pretended_gpu() as record:
        there, here = [pretend(torch.rand(3)) for _ in range(4)], [torch.arange(3.0) for _ in range(2)]
        to = [pretend(torch.zeros(3)) for _ in there], [torch.zeros(3) for _ in here]
        copy_tensors(to, (there, here))  # lists of both devices would be an error
    assert record.launches == {"_foreach_copy_": 1}
    torch.testing.assert_close([part.held for part in to[0]], [part.held for part in there])
    torch.testing.assert_close(to[1], here)
