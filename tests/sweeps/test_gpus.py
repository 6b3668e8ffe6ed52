"""A GPU is reserved for one trial at a time."""

import contextlib
import tempfile
import threading
from pathlib import Path

import pytest

from attendgen.sweeps.gpus import make_lock_folder, reserve_gpus
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


def test_trials_share_a_gpu_up_to_its_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two quarters and a half fill both GPUs evenly; a further half waits for the one that becomes free."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    got: list[str] = []

    def wait() -> None:
        with reserve_gpus(1, tmp_path, share=0.75, pause=0.01) as gpus:
            got.extend(gpus)

    waiting = threading.Thread(target=wait)
    with reserve_gpus(1, tmp_path, share=0.25) as first, reserve_gpus(1, tmp_path, share=0.25) as second:
        assert sorted(first + second) == ["3", "5"], "the least used GPU is chosen"
        with reserve_gpus(1, tmp_path, share=0.5) as third:
            with reserve_gpus(1, tmp_path, share=0.75, pause=0.01) as fourth:
                assert fourth != third
                waiting.start()
                waiting.join(0.1)
                assert got == []
            waiting.join(5)
            assert got == fourth
    with reserve_gpus(2, tmp_path) as both:
        assert sorted(both) == ["3", "5"], "all is given back"


@pytest.mark.parametrize("share", [1 / 3, 0.3333])
def test_three_thirds_fit_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with contextlib.ExitStack() as stack:
        assert [stack.enter_context(reserve_gpus(1, tmp_path, share)) for _ in range(3)] == [["3"]] * 3


def test_the_locks_are_those_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = make_lock_folder()
    assert make_lock_folder() == folder
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(UserError, match="not a folder of your own"):
        make_lock_folder()


def test_more_gpus_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match=r"devices=2.*1 GPUs"), reserve_gpus(2, tmp_path):
        pass
