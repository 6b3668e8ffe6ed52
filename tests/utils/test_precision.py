import pytest
import torch

from attendgen.utils.precision import set_matmul_precision


@pytest.mark.parametrize(("device", "precision"), [("cuda", "high"), ("cpu", "highest"), ("cuda:1", "high")])
def test_the_device_decides_on_tf32(monkeypatch: pytest.MonkeyPatch, device: str, precision: str) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    set_matmul_precision(torch.device(device))
    assert chosen == [precision]
