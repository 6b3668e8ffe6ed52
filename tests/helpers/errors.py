"""Checks of refusals, shared by all tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from attendgen.utils.errors import UserError


def refusal(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Return the one-line message of the `UserError` that a call raises."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


class Outcome(NamedTuple):
    """What a command of the command line left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def assert_mistake(outcome: Outcome, *parts: str | Path) -> None:
    """Check exit code 2 and one line that contains all of `parts`."""
    lines = [line for line in outcome.err.splitlines() if line.startswith("attendgen: ")]
    assert outcome.code == 2, outcome.err
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for part in parts:
        assert str(part) in lines[0]
