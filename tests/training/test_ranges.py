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
