"""Settings out of range are refused by their field."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from attendgen.training.ranges import check_ranges
from helpers.errors import refusal


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), "abc"])
def test_a_learning_rate_is_finite(value: Any) -> None:
    optimizer = {"_target_": "torch.optim.Adam", "lr": value}
    config = OmegaConf.create({"model": {}, "task": {"optimizer": optimizer}, "trainer": {"accelerator": "cpu"}})
    assert refusal(check_ranges, config) == f"task.optimizer.lr={value}: expected a number from 0"


def test_a_learning_rate_fits_into_a_float32() -> None:
    optimizer = {"_target_": "torch.optim.Adam", "lr": 1e300}
    config = OmegaConf.create({"model": {}, "task": {"optimizer": optimizer}, "trainer": {"accelerator": "cpu"}})
    assert refusal(check_ranges, config) == "task.optimizer.lr=1e+300: expected a number up to 1e+38"


@pytest.mark.parametrize("value", [0, -1, "abc", 1.5, None])
def test_batches_are_accumulated_in_whole_numbers(value: Any) -> None:
    trainer = {"accelerator": "cpu", "accumulate_grad_batches": value}
    config = OmegaConf.create({"model": {}, "task": {}, "trainer": trainer})
    assert refusal(check_ranges, config).startswith(f"trainer.accumulate_grad_batches={value}: expected a whole number")


@pytest.mark.parametrize("value", ["maybe", "yes", 1, None])
def test_what_is_true_or_false_is_no_word(value: Any) -> None:
    """Any word counts as true."""
    data = {"_target_": "attendgen.data.ParallelDataModule", "train": "pairs.tsv", "skip_bad": value}
    config = OmegaConf.create({"data": data, "model": {}, "task": {}, "trainer": {"accelerator": "cpu"}})
    assert refusal(check_ranges, config) == f"data.skip_bad={value}: expected true or false"
    config.data.skip_bad = True
    check_ranges(config)


@pytest.mark.parametrize("value", [-1, "abc", None])
def test_minutes_are_a_number(value: Any) -> None:
    last = {"_target_": "attendgen.callbacks.LastCheckpoint", "minutes": value}
    config = OmegaConf.create({"model": {}, "task": {}, "callbacks": {"last": last}, "trainer": {"accelerator": "cpu"}})
    assert refusal(check_ranges, config) == f"callbacks.last.minutes={value}: expected a number of minutes from 0"


@pytest.mark.parametrize("value", [-1, 2.5, "3", True, None])
def test_a_warm_up_is_a_whole_number_of_steps(value: Any) -> None:
    schedule = {"_target_": "attendgen.optim.WarmupCosine", "steps": 9, "warmup": value}
    config = OmegaConf.create({"model": {}, "task": {"schedule": schedule}, "trainer": {"accelerator": "cpu"}})
    assert refusal(check_ranges, config) == f"task.schedule.warmup={value}: expected a whole number of steps from 0"
    config.task.schedule.warmup = 4
    check_ranges(config)


def test_a_limit_of_gradients_is_not_negative() -> None:
    config = OmegaConf.create({"model": {}, "task": {}, "trainer": {"accelerator": "cpu", "gradient_clip_val": -1.0}})
    assert refusal(check_ranges, config).startswith("trainer.gradient_clip_val=-1.0: expected a number from 0")


def test_patience_is_a_whole_number_of_validations() -> None:
    stopping = {"_target_": "attendgen.callbacks.EarlyStopping", "patience": -1}
    config = OmegaConf.create(
        {"model": {}, "task": {}, "callbacks": {"stop": stopping}, "trainer": {"accelerator": "cpu"}}
    )
    assert refusal(check_ranges, config).startswith("callbacks.stop.patience=-1: expected a whole number")
    config.callbacks.stop.patience = 0
    check_ranges(config)


def test_a_training_of_no_batches_is_refused() -> None:
    trainer = {"accelerator": "cpu", "limit_train_batches": 0}
    config = OmegaConf.create({"model": {}, "task": {}, "trainer": trainer})
    assert refusal(check_ranges, config).startswith("trainer.limit_train_batches=0: nothing would be trained")
