"""The moving average of the weights against its definition as a sum over steps."""

import math
from unittest.mock import Mock

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from attendgen.callbacks.ema import EMA, find_averaged
from attendgen.utils.errors import UserError


class Counted(TorchDispatchMode):
    """Collect the names of the operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


class Toy(LightningModule):
    """Three weights and a batch norm, a noisy training step, and a record of the weights of each step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Linear(3, 1, bias=False), nn.BatchNorm1d(1))
        self.seen: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return (self.layer(batch) - batch.sum(dim=1, keepdim=True)).square().mean()

    def on_train_batch_end(self, *_: object) -> None:
        self.seen.append(self.layer[0].weight.detach().clone())

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.validated.append(self.layer[0].weight.detach().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def fit(tmp_path, decay: float, steps: int) -> Toy:
    model = Toy()
    loader = DataLoader(torch.randn(8 * 5, 3), batch_size=8)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[EMA(decay)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, loader, DataLoader(torch.randn(1, 3)))
    return model


def average_of(seen: list[torch.Tensor], decay: float) -> torch.Tensor:
    """The average as a sum over steps, each with its weight and the decays of the later steps."""
    decays = [0.0] + [min(decay, (1 + n) / (10 + n)) for n in range(1, len(seen))]
    return sum((1 - decays[i]) * math.prod(decays[i + 1 :]) * weight for i, weight in enumerate(seen))


@pytest.mark.parametrize("decay", [0.6, 0.999])
def test_validation_uses_the_average_of_the_steps(tmp_path, decay):
    model = fit(tmp_path, decay, 20)
    assert len(model.seen) == 20
    for epoch, weight in enumerate(model.validated, 1):
        torch.testing.assert_close(weight, average_of(model.seen[: 5 * epoch], decay))
    assert len(model.validated) == 4
    assert not torch.allclose(model.validated[-1], model.seen[-1], atol=1e-3)
    torch.testing.assert_close(model.layer[0].weight.detach(), model.validated[-1])  # the weights at the end, too


def test_training_is_not_changed(tmp_path):
    one, other = (fit(tmp_path, decay, 20).seen for decay in (0.5, 0.999))
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_one_call_updates_the_average_without_waiting_for_the_device():
    """Tensors on the device "meta" have no values: whatever the host would read is an error."""
    model = Toy()
    callback, trainer = EMA(0.9), Mock(spec=Trainer, global_step=0)
    model.to("meta")  # as the strategy does, after `setup`
    callback.on_fit_start(trainer, model)
    for step in range(1, 4):
        trainer.global_step = step
        with Counted() as counted:
            callback.on_train_batch_end(trainer, model, None, None, 0)
        assert counted.names == ["aten::_foreach_lerp_.Scalar"]
    assert {value.device.type for value in callback.averaged} == {"meta"}


def test_frozen_weights_are_not_averaged(tmp_path):
    model = Toy()
    model.frozen, model.tied = nn.Linear(2, 2).requires_grad_(False), model.layer[0]
    names = find_averaged(model)
    trained = {"layer.0.weight", "layer.1.weight", "layer.1.bias"}
    assert set(names) == trained | {"layer.1.running_mean", "layer.1.running_var"}


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 2.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UserError, match=r"callbacks\.ema\.decay=.*between 0 and 1"):
        EMA(decay)
