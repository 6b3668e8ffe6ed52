"""Settings of the tests on a GPU: exact arithmetic, and nothing that one test sets is left to the next."""

import os
from collections.abc import Iterator

import pytest
import torch

# read when cuBLAS is first used; `trainer.deterministic=true` needs it
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The GPU, without TF32; the test is skipped where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield "cuda"
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def process_group() -> Iterator[None]:
    """Lets the test start processes that exchange gradients; afterwards this process is alone again."""
    before = dict(os.environ)  # Lightning tells the processes in it who they are
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)
