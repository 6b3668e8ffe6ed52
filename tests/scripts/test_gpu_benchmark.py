"""The benchmark for GPUs runs all of its sections, tiny and on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "gpu.py"
SECTIONS = ("ceilings", "training", "decoding")
SLOW_SECTIONS = ("overhead", "resume", "half", "compiled", "loading", "features", "ddp")


def run(folder: Path, *sections: str) -> tuple[list[dict], str]:
    command = [sys.executable, str(SCRIPT), "--quick", "--minutes", "4", "--out", str(folder), "--only", *sections]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads((folder / "gpu.json").read_text())["rows"], printed


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[list[dict], str]:
    return run(tmp_path_factory.mktemp("gpu"), *SECTIONS)


@pytest.mark.slow
def test_every_section_measures_without_an_error(quick):
    rows, _ = quick
    assert [row for row in rows if "error" in row] == []
    assert {row["section"] for row in rows} == set(SECTIONS)


@pytest.mark.slow
def test_the_acceptance_lines_are_printed(quick):
    _, printed = quick
    assert len(printed) < 10_000
    for line in ("pass  A1 lstm dtype", "pass  soft step syncs == 0", "FAIL  fp16 finite", "FAIL  DDP ok"):
        assert line in printed


@pytest.mark.slow
def test_the_slow_sections_measure_without_an_error(tmp_path):
    rows, printed = run(tmp_path, *SLOW_SECTIONS)
    assert [row for row in rows if "error" in row] == []
    assert {row["section"] for row in rows} == set(SLOW_SECTIONS)
    assert "pass  resume identical: 1 of 1" in printed
    assert "pass  DDP ok" in printed
    assert "pass  fp16 finite" in printed


def test_an_error_costs_its_row_and_is_written(load_script, tmp_path):
    load_script("benchmarks/gpu")
    from gpu_sections.session import Session, read_results

    session = Session("training", tmp_path, quick=True, seconds=60)
    session.attempt("broken", lambda: torch.zeros(2) @ torch.zeros(3), times=1)
    session.attempt("whole", lambda: {"ms": 2.0})
    session.ends = 0
    session.attempt("late", lambda: {"ms": 2.0})
    broken, whole, late = read_results(tmp_path)["rows"]
    assert broken["error"].startswith("RuntimeError: ")
    assert broken["times"] == 1
    assert whole["ms"] == 2
    assert "time" in late["error"]


def test_families_have_the_tasks_of_their_experiments(load_script):
    load_script("benchmarks/gpu")
    from gpu_sections.families import FAMILIES, compose_config, list_overrides, make_batch

    for name, family in FAMILIES.items():
        config = compose_config(list_overrides(name, quick=True))
        if family.kind != "captions":  # theirs is 16 for all
            assert family.batch == config.data.batch_size
        if family.kind == "streams":
            assert family.length == config.data.seq_len
        batch = make_batch(name, times=3, quick=True)
        assert len(batch.outputs) == 6
        assert batch.totals.tokens == (batch.outputs != 0).sum()


def test_a_task_without_dropout_computes_the_same_loss_again(load_script):
    load_script("benchmarks/gpu")
    from gpu_sections.families import build_task, forget_state, make_batch

    def compute(name: str, dropout: bool) -> list[torch.Tensor]:
        task, _ = build_task(name, quick=True, dropout=dropout)
        losses = []
        for _ in range(2):
            forget_state(task)
            losses.append(task.training_step(make_batch(name, quick=True), 0))
        return losses

    for name in ("soft_7x7x1280", "lm_lstm", "seq2seq_transformer"):
        first, second = compute(name, dropout=False)
        assert first == second
        first, second = compute(name, dropout=True)
        assert first != second


def test_the_operations_of_an_lstm_are_counted(load_script):
    load_script("benchmarks/gpu")
    from gpu_sections.measure import count_lstm_flops

    lstm = torch.nn.LSTM(3, 4, batch_first=True)
    weights = [weight.shape for weight in lstm.all_weights[0]]
    products = 2 * (4 * 4) * 3 + 2 * (4 * 4) * 4  # gates of one step of one row
    assert count_lstm_flops((5, 7, 3), weights) == 5 * 7 * products
    assert count_lstm_flops((35, 3), weights) == 5 * 7 * products
