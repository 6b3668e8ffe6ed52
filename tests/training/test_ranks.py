"""What two processes do in each step of a training, and at its end."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from attendgen.callbacks.gradient_norm import GradientNorm
from attendgen.hydra_app.app import run_hydra
from attendgen.utils.errors import Interrupted
from helpers import tiny_data
from helpers.checkpoints import read
from helpers.processes import TWO, run_ranks

QUICK = ("decoding.max_length=4", "callbacks.samples=null", "logger=csv", "data.batch_size=2", "model.hidden=8")


def test_processes_wait_for_each_other_in_logged_steps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[tuple[int, str]] = Counter()
    step = 0

    def spy(name: str) -> None:
        real = getattr(torch.distributed, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[step, name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(torch.distributed, name, counted)

    def begin(_: object, trainer: lightning.Trainer, *rest: object) -> None:
        nonlocal step
        step = trainer.global_step + 1

    def train(rank: int) -> dict[tuple[int, str], int]:
        for name in ("all_reduce", "barrier", "all_gather_object", "broadcast_object_list"):
            spy(name)
        monkeypatch.setattr("attendgen.callbacks.step_seed.StepSeed.on_train_batch_start", begin)
        given = ("steps=5", "validate_every=9", "trainer.log_every_n_steps=3")
        run_hydra(tiny_data.arguments("toy_chat", tmp_path, *QUICK, *TWO, *given))
        return dict(calls)

    first, second = run_ranks(train)
    assert first == second
    for number in (1, 2, 4):  # the denominators of the loss, which the host does not read
        assert {name: count for (at, name), count in first.items() if at == number} == {"all_reduce": 1}, number
    assert first[3, "all_reduce"] > 1


def test_a_signal_to_one_process_stops_both_at_a_logged_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(rank: int) -> tuple[int, str]:
        def interrupt(_: object, trainer: lightning.Trainer, *rest: object) -> None:
            if trainer.global_step == 1 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(GradientNorm, "on_before_optimizer_step", interrupt)
        given = ("steps=9", "epochs=-1", "validate_every=99", "trainer.log_every_n_steps=4")
        with pytest.raises(Interrupted) as stopped:
            run_hydra(tiny_data.arguments("toy_chat", tmp_path, *QUICK, *TWO, *given))
        return stopped.value.number, str(stopped.value)

    assert run_ranks(train) == [(signal.SIGTERM, "stopped by SIGTERM after step 4")] * 2
    assert read(tmp_path / "run")["global_step"] == 4


def test_each_example_counts_once_where_a_process_has_none_to_validate(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.tsv").write_text("hello\thi there\n", encoding="utf-8")
    given = [*QUICK, "steps=1", "monitor.metric=val/cross_entropy", "monitor.mode=min", "task.optimizer.lr=1e-9"]
    given += ["data.global_batch_size=4", f"data.val={tmp_path}/one.tsv"]

    def train(*several: str, name: str) -> None:
        run_hydra(tiny_data.arguments("toy_chat", tmp_path, *given, *several, name=name))

    train(name="alone")
    run_ranks(lambda _: train(*TWO, name="together"))
    summaries = (json.loads((tmp_path / name / "metrics_fit.json").read_text()) for name in ("alone", "together"))
    alone, together = (summary["val/cross_entropy"] for summary in summaries)
    assert together == pytest.approx(alone, rel=1e-5)
    assert "each step trains on 2 x 2 devices = 4 examples" in capfd.readouterr().err


def test_two_processes_on_the_cpu_train_one_batch_norm(tmp_path: Path) -> None:
    def train(rank: int) -> dict[str, torch.Tensor]:
        seen = {}

        def keep(_: object, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
            seen.update({name: part.clone() for name, part in task.named_buffers() if "running" in name})

        patch = pytest.MonkeyPatch()
        patch.setattr("attendgen.callbacks.throughput.Throughput.on_validation_start", keep)
        given = ("steps=2", "data.batch_size=2", "callbacks.samples=null", "logger=csv", "+trainer.limit_val_batches=1")
        run_hydra(tiny_data.arguments("shapes", tmp_path, *given, *TWO))
        return seen

    first, second = run_ranks(train)
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)
    saved = read(tmp_path / "run")["state_dict"]
    assert all(torch.equal(saved[name], first[name]) for name in first)
