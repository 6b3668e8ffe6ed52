"""Training steps on tensors that report to be on a GPU: nothing of another device enters, and the host never waits."""

import contextlib

import pytest
import torch

from attendgen.data.batch import count_targets
from attendgen.layers.state import iterate_tensors
from attendgen.utils.special_tokens import EOS, PAD
from helpers.families import FAMILIES, WITHOUT_CHANCE, make_training
from helpers.pretended_gpu import GPU, Pretended, Record, autocast, pretend, pretend_training, pretended_gpu

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# the host reads the end of six tokens, of the samples and of the greedy baseline
ENDS = {"captioner, self-critical": 1, "captioner, self-critical, hard": 2}


def take_step(name: str, dtype: torch.dtype | None, families=FAMILIES, **settings: float) -> tuple[float, Record]:
    """Return the loss of a training step, and what would happen on a GPU."""
    training = make_training(name, families, **settings)
    with pretended_gpu() as record:
        task, batch = pretend_training(training)
        with contextlib.nullcontext() if dtype is None else autocast(dtype):
            loss = task.training_step(batch, 0)
    assert isinstance(loss, Pretended)
    return loss.held.item(), record


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_runs_on_one_device_and_does_not_wait_for_it(name: str, dtype: torch.dtype | None) -> None:
    loss, record = take_step(name, dtype, dropout=0.3)
    assert loss == loss
    assert record.launches.total() > 10
    assert record.waits.total() == ENDS.get(name, 0)
    assert all(" at decoding/" in wait for wait in record.waits)


@pytest.mark.parametrize("name", WITHOUT_CHANCE)
def test_the_loss_is_that_of_a_cpu(name: str) -> None:
    task, batch = make_training(name, WITHOUT_CHANCE)
    expected = task.training_step(batch, 0).item()
    assert take_step(name, None, WITHOUT_CHANCE)[0] == pytest.approx(expected, rel=1e-5)
    assert take_step(name, torch.bfloat16, WITHOUT_CHANCE)[0] == pytest.approx(expected, rel=0.02, abs=0.02)


def test_totals_that_a_batch_lacks_are_counted_on_its_device() -> None:
    with pretended_gpu() as record:
        totals = count_targets(pretend(torch.tensor([[5, 6, EOS], [EOS, PAD, PAD]])))
    assert [part.held.item() for part in totals] == [2, 2, 4]
    assert not record.waits


@pytest.mark.parametrize("name", ENDS)
def test_rewards_and_loss_of_given_samples_do_not_wait(name: str) -> None:
    assert not take_step(name, None, WITHOUT_CHANCE)[1].waits


@pytest.mark.parametrize("name", ["lm, lstm", "lm, attention window", "lm, ngrams", "lm, transformer"])
def test_a_carried_state_is_saved_on_the_cpu_and_restored_to_the_device(name: str) -> None:
    training, checkpoint = make_training(name), {}
    with pretended_gpu():
        task, batch = pretend_training(training)
        task.training_step(batch, 0)
        task.on_save_checkpoint(checkpoint)
        assert not any(isinstance(part, Pretended) for part in checkpoint["recurrent"][0])
        resumed, batch = pretend_training(training)
        resumed.on_load_checkpoint(checkpoint)
        # recorded steps copy the state from there
        assert all(isinstance(part, Pretended) for part in iterate_tensors(resumed.get_carried(batch)))
        losses = [each.training_step(batch, 1).held for each in (task, resumed)]
    torch.testing.assert_close(*losses)


WAITS = {
    "item": lambda there: there.sum().item(),
    "bool": lambda there: bool(there.any()),
    "tolist": lambda there: there.tolist(),
    "nonzero": lambda there: there.nonzero(),
    "unique": lambda there: there.unique(),
    "cpu": lambda there: there.cpu(),
    "to": lambda there: there.to("cpu"),
    "a mask as index": lambda there: there[there > 0],
    "a list as index": lambda there: there[[0, 1]],
    "numbers": lambda there: torch.tensor([1, 2], device=there.device),
    "numbers like": lambda there: there.new_tensor([1.0]),
    "a CPU's tensor": lambda there: torch.ones(3).to(there.device),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_the_check_finds_what_the_host_waits_for(wait) -> None:
    with pretended_gpu() as record:
        wait(pretend(torch.arange(3.0)))
    assert record.waits.total() == 1


def test_the_check_finds_no_wait_where_there_is_none() -> None:
    with pretended_gpu() as record:
        there = pretend(torch.arange(3.0))
        rows = torch.arange(2, device=GPU)
        there[there > 1] = 0.0
        torch.ones(3).to(GPU, non_blocking=True)
        assert (there[rows] * 2 + torch.zeros((), device=GPU)).held.tolist() == [0.0, 2.0]
    assert not record.waits
    assert record.launches["mul"] == 1


@pytest.mark.parametrize("mix", [lambda there: there + torch.ones(3), lambda there: torch.cat([torch.ones(3), there])])
def test_the_check_finds_tensors_of_both_devices(mix) -> None:
    with pretended_gpu(), pytest.raises(RuntimeError, match="on the CPU and on the GPU"):
        mix(pretend(torch.arange(3.0)))
