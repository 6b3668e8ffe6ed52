"""How OpenMP's threads wait, by what runs on the machine."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attendgen.utils import openmp
from attendgen.utils.openmp import choose_waiting, has_free_cpus


def look(*running: int) -> Callable[[], str]:
    """Return a function that tells another number of running threads each time."""
    texts = iter([f"0.50 0.40 0.30 {number}/123 4567\n" for number in running])
    return lambda: next(texts)


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch):
    """Set the number of CPUs, and of those that this process may use."""

    def put(all_of_them: int, own: int) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: all_of_them)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(own)))

    return put


@pytest.mark.parametrize(
    ("all_of_them", "own", "running", "free"),
    [
        (2, 2, (1, 1, 1), True),  # this process alone
        (2, 2, (2, 2, 2), False),
        (2, 2, (2, 1, 3), True),  # no other program ran all the time
        (2, 1, (2, 2, 2), True),
        (8, 4, (5, 5, 5), True),
        (8, 4, (6, 7, 6), False),
    ],
)
def test_every_thread_needs_a_cpu_beside_all_that_runs(cpus, all_of_them, own, running, free, tmp_path: Path) -> None:
    cpus(all_of_them, own)
    assert has_free_cpus(look(*running), tmp_path / "none") is free


@pytest.mark.parametrize(("quota", "free"), [("max 100000", True), ("200000 100000", False), ("", False)])
def test_a_container_with_a_quota_has_no_free_cpus(cpus, quota: str, free: bool, tmp_path: Path) -> None:
    cpus(2, 2)
    (tmp_path / "cpu.max").write_text(quota)
    assert has_free_cpus(look(1, 1, 1), tmp_path / "cpu.max") is free


@pytest.mark.parametrize("text", [None, "", "0.5 0.4 0.3", "0.5 0.4 0.3 a/b 7"])
def test_what_is_not_known_counts_as_busy(cpus, text: str | None, tmp_path: Path) -> None:
    cpus(2, 2)
    if text is not None:
        (tmp_path / "loadavg").write_text(text)
    assert has_free_cpus((tmp_path / "loadavg").read_text, tmp_path / "none") is False


@pytest.mark.parametrize("free", [True, False])
def test_threads_spin_only_on_free_cpus(free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "has_free_cpus", lambda: free)
    environment: dict[str, str] = {}
    choose_waiting(environment)
    assert environment.pop("OMP_WAIT_POLICY") == "passive"
    assert environment == ({"GOMP_SPINCOUNT": "2000"} if free else {})


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "1"}])
def test_what_the_user_has_set_stays(given: dict[str, str]) -> None:
    environment = dict(given)
    choose_waiting(environment)
    assert environment == given


def test_the_policy_is_set_before_torch_is_imported() -> None:
    variables = {name: value for name, value in os.environ.items() if name not in openmp.VARIABLES}
    code = "import attendgen, os, sys; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["passive", "False"]
