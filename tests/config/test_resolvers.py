"""Names of folders."""

import datetime
from types import SimpleNamespace

import pytest

from attendgen.config import resolvers


def test_two_runs_that_start_in_the_same_second_get_two_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [datetime.datetime(2024, 1, 2, 3, 4, 5, microsecond) for microsecond in (0, 1)]
    monkeypatch.setattr(resolvers, "datetime", SimpleNamespace(datetime=SimpleNamespace(now=times.pop)))
    second, first = resolvers.name_start(), resolvers.name_start()
    assert first < second, "folders sort by time"
