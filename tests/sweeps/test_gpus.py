"""A GPU is reserved for one trial at a time."""

import threading
from pathlib import Path

import pytest

from attendgen.sweeps.gpus import reserve_gpus
from attendgen.utils.errors import UserError


def test_trials_get_gpus_of_their_own_and_wait_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    third = []

    def wait() -> None:
        with reserve_gpus(1, tmp_path, pause=0.01) as gpus:
            third.extend(gpus)

    waiting = threading.Thread(target=wait)
    with reserve_gpus(1, tmp_path) as first:
        with reserve_gpus(1, tmp_path) as second:
            assert sorted(first + second) == ["3", "5"]
            waiting.start()
            waiting.join(0.1)
            assert third == []
        waiting.join(5)
        assert third == second


def test_a_trial_of_two_takes_both_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    got = []

    def wait() -> None:
        with reserve_gpus(2, tmp_path, pause=0.01) as gpus:
            got.extend(gpus)

    waiting = threading.Thread(target=wait)
    with reserve_gpus(1, tmp_path):
        waiting.start()
        with reserve_gpus(1, tmp_path, pause=0.01):  # the waiting one holds nothing
            pass
    waiting.join(5)
    assert got == ["3", "5"]


def test_more_gpus_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match=r"devices=2.*1 GPUs"), reserve_gpus(2, tmp_path):
        pass
