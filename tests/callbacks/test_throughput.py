"""Rates in TensorBoard, against a clock that the test moves."""

from pathlib import Path

import lightning
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.callbacks import throughput
from attendgen.hydra_app.app import run_hydra
from attendgen.utils.special_tokens import PAD


class Clock(lightning.Callback):
    """Half a second per training batch, a hundred per validation."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.batches: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.now += 0.5
        self.batches.append((batch.outputs.shape[0], int((batch.outputs != PAD).sum())))

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        self.now += 100.0


@pytest.mark.parametrize(("accumulated", "every"), [(1, 2), (2, 2), pytest.param(1, 3, marks=pytest.mark.slow)])
def test_rates_are_of_the_batches_since_the_last_entry(
    tmp_path: Path, monkeypatch, accumulated: int, every: int
) -> None:
    clock = Clock()
    monkeypatch.setattr("attendgen.callbacks.GradientNorm", lambda: clock, raising=False)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock.now)
    settings = ["epochs=3", "validate_every=2", f"trainer.log_every_n_steps={every}", "callbacks.progress=null"]
    settings += [
        f"trainer.accumulate_grad_batches={accumulated}",
        "+trainer.limit_val_batches=1",
        "callbacks.samples=null",
        "decoding.max_length=4",
    ]
    run_hydra(["experiment=toy_chat", f"hydra.run.dir={tmp_path}/run", *settings])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    each = every * accumulated
    assert len(clock.batches) == 12
    windows = [clock.batches[i : i + each] for i in range(0, len(clock.batches), each)]
    for name, column in (("samples", 0), ("tokens", 1)):
        logged = [entry.value for entry in events.Scalars(f"throughput/{name}_per_second")]
        expected = [sum(batch[column] for batch in window) / (0.5 * each) for window in windows]
        assert logged == pytest.approx(expected)
    assert events.Scalars("memory/process_gib")[-1].value > 0.05
