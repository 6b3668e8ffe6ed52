"""A training never waits for the GPU except in the steps that are logged, so that the host is ahead of it."""

import warnings
from dataclasses import replace

import pytest
import torch

from helpers.decoded_families import DECODED, MODES, bound_waits
from helpers.families import FAMILIES, WITHOUT_CHANCE, make_training, move
from helpers.waiting import forbid_waiting, train_without_waiting

pytestmark = pytest.mark.gpu

WITHOUT = ["critical"]  # sampling asks whether all captions have ended
WITHOUT_WAITING = [name for name in FAMILIES if not any(part in name for part in WITHOUT)]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", WITHOUT_WAITING)
def test_a_training_step_does_not_wait(name: str, dtype: torch.dtype | None, device: str) -> None:
    task, batch = move(make_training(name, dropout=0.3), device)

    def step(index: int) -> None:
        with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False):
            loss = task.training_step(batch, index)
        loss.backward()

    step(0)  # libraries make their plans and workspaces
    with forbid_waiting():
        step(1)


@pytest.mark.parametrize("name", [name for name in FAMILIES if "critical" in name])
def test_self_critical_training_on_given_samples_does_not_wait(name: str, device: str) -> None:
    task, batch = move(make_training(name, WITHOUT_CHANCE, dropout=0.3), device)
    task.training_step(batch, 0).backward()
    with forbid_waiting():
        task.training_step(batch, 1).backward()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "name", ["captioner", "captioner, moving baseline", "seq2seq, luong, input feeding", "table", "lm, ngrams"]
)
def test_a_training_with_callbacks_does_not_wait(name: str, precision: str, device: str) -> None:
    assert train_without_waiting(name, precision=precision) == 6


@pytest.mark.filterwarnings("ignore")
def test_a_training_over_nccl_does_not_wait(process_group: None) -> None:
    assert train_without_waiting("captioner", strategy="ddp", precision="bf16-mixed") == 6


IN_ALL_MODES = ["captioner", "seq2seq, luong", "table", "ensemble of translators", "lm, windows"]
DECODINGS = [(name, mode) for name in IN_ALL_MODES for mode in MODES]
DECODINGS += [(name, "beam") for name in DECODED if name not in IN_ALL_MODES]


@pytest.mark.parametrize(("name", "mode"), DECODINGS)
def test_decoding_waits_at_most_once_in_four_tokens_of_an_output(name: str, mode: str, device: str) -> None:
    task, batch = move(make_training(name, DECODED), device)
    task.eval().decoding = replace(MODES[mode], max_length=13, min_length=13)
    task.generate(batch)  # libraries make their plans and workspaces
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        task.generate(batch)
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in found if "synchronizing" in str(warning.message)]
    assert len(waits) <= bound_waits(name, mode, 13)


def test_the_check_finds_a_wait(device: str) -> None:
    number = torch.ones((), device=device)
    with pytest.raises(RuntimeError, match="synchronizing"), forbid_waiting():
        number.item()
