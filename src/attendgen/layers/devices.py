"""Which fast path a tensor's device takes."""

from torch import Tensor


def is_on_gpu(tensor: Tensor) -> bool:
    """Return whether operations are kernels that the processor launches: few large ones are faster than many."""
    return tensor.is_cuda
