"""What training steps and decoding steps that are recorded share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from attendgen.layers.graphs import WARM_UP, CudaRecorder, copy_tensors
from helpers.pretended_gpu import pretend, pretended_gpu


class Streams:
    """What stands for the streams and graphs of `torch.cuda`; a recording that fails leaves its stream current.

    Attributes:
        current: the number of the current stream, 0 at first.
        recordings: stream and pool of each.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = self.number = 0
        self.recordings: list[tuple[int, Any]] = []
        for name in ("CUDAGraph", "Stream", "current_stream", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    class CUDAGraph:
        def pool(self) -> str:
            return "pool"

        def replay(self) -> None:
            pass

    class _Stream:
        def __init__(self, number: int) -> None:
            self.number = number
            self.waited_for: list[int] = []

        def wait_stream(self, other: Any) -> None:
            self.waited_for.append(other.number)

    def Stream(self) -> Any:
        self.number += 1
        return self._Stream(self.number)

    def current_stream(self) -> Any:
        return self._Stream(self.current)

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.number
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        before, self.current = self.current, stream.number
        self.recordings.append((stream.number, pool))
        yield
        self.current = before


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    return Streams(monkeypatch)


def test_functions_are_recorded_after_a_warm_up_on_another_stream(streams: Streams) -> None:
    recorder, ran_on = CudaRecorder(), []
    for number in range(2):
        assert recorder(lambda: ran_on.append(streams.current) or "outputs")[1] == "outputs"
        *warm, recorded = ran_on
        assert len(warm) == WARM_UP
        assert len({*warm, recorded, 0}) == 3
        assert streams.recordings[number] == (recorded, "pool" if number else None)
        ran_on.clear()
    assert streams.recordings[0][0] == streams.recordings[1][0]
    assert streams.current == 0


@pytest.mark.parametrize("succeeds", [0, WARM_UP])
def test_the_stream_is_left_where_a_function_fails(succeeds: int, streams: Streams) -> None:
    runs = iter(range(succeeds))

    def fail() -> None:
        if next(runs, None) is None:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="capturing"):
        CudaRecorder()(fail)
    assert len(streams.recordings) == bool(succeeds)
    assert streams.current == 0


def test_tensors_of_each_device_are_copied_by_one_operation() -> None:
    with pretended_gpu() as record:
        there, here = [pretend(torch.rand(3)) for _ in range(4)], [torch.arange(3.0) for _ in range(2)]
        to = [pretend(torch.zeros(3)) for _ in there], [torch.zeros(3) for _ in here]
        copy_tensors(to, (there, here))  # lists of both devices would be an error
    assert record.launches == {"_foreach_copy_": 1}
    torch.testing.assert_close([part.held for part in to[0]], [part.held for part in there])
    torch.testing.assert_close(to[1], here)
