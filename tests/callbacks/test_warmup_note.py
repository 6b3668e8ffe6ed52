"""A warm-up that the training cannot finish is told at its start."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from attendgen.callbacks.warmup_note import WarmupNote
from attendgen.optim.schedules import Constant, WarmupCosine


@pytest.mark.parametrize(
    ("schedule", "steps", "told"),
    [
        (
            WarmupCosine(30, 400),
            30,
            "task.schedule.warmup=400: longer than the 30 steps of the training; shortened to 3",
        ),
        (WarmupCosine(9000, 400), 50, "task.schedule.warmup=400: the training ends after 50 steps, within its warm-up"),
        (WarmupCosine(9000, 400), 9000, ""),
        (WarmupCosine(9000, 400), float("inf"), ""),
        (Constant(), 5, ""),
    ],
)
def test_long_warm_ups_are_told(caplog: pytest.LogCaptureFixture, schedule: Any, steps: float, told: str) -> None:
    trainer = cast("Any", SimpleNamespace(estimated_stepping_batches=steps))
    start = WarmupNote.on_train_start
    getattr(start, "__wrapped__", start)(WarmupNote(), trainer, SimpleNamespace(schedule=schedule))
    assert "".join(record.message for record in caplog.records).startswith(told)
    assert bool(caplog.records) == bool(told)
