"""Trainings of a few steps by Lightning on a GPU: each family in half precision, carried states, weight averages."""

from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from attendgen.callbacks.ema import EMA
from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.utils.errors import DivergedError
from helpers.families import FAMILIES, make_training, move

pytestmark = pytest.mark.gpu

STEPS = 8
STATEFUL = ["lm, lstm", "lm, attention window", "lm, ngrams", "lm, textgenerate", "lm, transformer"]
WITHOUT_CHANCE = [name for name in FAMILIES if not any(part in name for part in ("base", "leave", "critical"))]


class Losses(lightning.Callback):
    """Keeps the loss of each step."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(outputs["loss"])


def fit(task: lightning.LightningModule, batches: list[Any], *callbacks: lightning.Callback, **settings: Any) -> None:
    trainer = lightning.Trainer(
        devices=1,
        max_steps=len(batches),
        callbacks=[*callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=4,
        **settings,
    )
    trainer.fit(task, train_dataloaders=DataLoader(batches, batch_size=None))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_trains_in_half_precision(name: str, precision: str, device: str) -> None:
    task, batch = make_training(name)
    del task.log  # there is a trainer now
    task.on_fit_start = lambda: None  # the reward is there already
    before = [weight.detach().clone() for weight in task.parameters()]
    losses = Losses()
    fit(task, [batch] * STEPS, losses, FiniteLoss(), accelerator="gpu", precision=precision)
    after = [weight.cpu() for weight in task.parameters()]
    assert len(losses.values) == STEPS
    assert all(torch.isfinite(part).all() for part in (*losses.values, *after))
    assert sum(not torch.equal(*pair) for pair in zip(before, after, strict=True)) > len(after) // 2
    if name in WITHOUT_CHANCE:
        assert losses.values[-1] < losses.values[0]


@pytest.mark.filterwarnings("ignore")
def test_a_batch_that_overflows_in_float16_is_skipped(device: str) -> None:
    task, batch = make_training("captioner")
    del task.log  # there is a trainer now
    overflows = batch._replace(images=torch.full_like(batch.images, 1e9))
    losses = Losses()
    fit(task, [batch, batch, overflows, batch, batch], losses, FiniteLoss(), accelerator="gpu", precision="16-mixed")
    assert [bool(torch.isfinite(loss)) for loss in losses.values] == [True, True, False, True, True]
    assert all(torch.isfinite(weight).all() for weight in task.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["captioner, moving baseline", "captioner, leave one out"])
def test_attention_that_is_not_finite_ends_the_training_and_not_the_device(name: str, device: str) -> None:
    task, batch = make_training(name)
    del task.log  # there is a trainer now
    with torch.no_grad():
        task.model.decoder.attention.query_proj.weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="the loss is not finite"):
        fit(task, [batch] * 4, FiniteLoss(), accelerator="gpu")
    assert torch.ones(3, device=device).sum().item() == 3, "the device computes"


class Regression(lightning.LightningModule):
    """A linear model with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
        return self.model(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class PlacesOfAverage(lightning.Callback):
    """Keeps the devices of all tensors of more than one number that another callback holds."""

    def __init__(self, other: lightning.Callback) -> None:
        self.other = other
        self.devices: set[str] = set()

    def on_train_batch_end(self, *arguments: Any) -> None:
        for value in vars(self.other).values():
            tensors = value.state_dict().values() if isinstance(value, nn.Module) else value
            tensors = tensors.values() if isinstance(tensors, dict) else tensors
            found = [part for part in tensors if isinstance(part, torch.Tensor)] if _is_iterable(tensors) else []
            self.devices |= {part.device.type for part in found if part.numel() > 1}


def _is_iterable(value: object) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str)


def test_the_average_of_the_weights_lives_on_the_gpu_and_equals_that_of_a_cpu(device: str) -> None:
    batches = list(torch.randn(12, 5, 3))
    averages = {}
    for accelerator in ("cpu", "gpu"):
        torch.manual_seed(0)
        task, average = Regression(), EMA(0.8)
        places = PlacesOfAverage(average)
        fit(task, batches, average, places, accelerator=accelerator)
        assert places.devices == {"cpu" if accelerator == "cpu" else "cuda"}
        averages[accelerator] = {name: value.cpu() for name, value in task.state_dict().items()}
    torch.testing.assert_close(averages["gpu"], averages["cpu"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["lm, lstm", "lm, attention window", "lm, ngrams", "lm, textgenerate", "lm, transformer"]
)
@pytest.mark.parametrize("resumed_on", ["cpu", "cuda"])
def test_a_carried_state_is_saved_on_the_cpu_and_resumed_anywhere(name: str, resumed_on: str, device: str) -> None:
    training = make_training(name)
    task, batch = move(training, device)
    task.training_step(batch, 0)
    checkpoint: dict[str, Any] = {}
    task.on_save_checkpoint(checkpoint)
    saved = checkpoint["recurrent"][0]
    assert {part.device.type for part in saved} == {"cpu"}
    resumed, same_batch = move(training, resumed_on)
    resumed.on_load_checkpoint(checkpoint)
    goes_on = batch._replace(reset=torch.zeros_like(batch.reset))
    expected = task.training_step(goes_on, 1)
    found = resumed.training_step(same_batch._replace(reset=goes_on.reset.to(resumed_on)), 1)
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=1e-4, atol=1e-5)
    fresh = move(training, device)
    assert not torch.isclose(fresh.task.training_step(fresh.batch, 0), expected), "the state matters"
