"""How a run ended, and the sessions in which it was trained: its start and each time that it was resumed."""

import datetime
from pathlib import Path
from typing import Any, NamedTuple

from attendgen.runs.layout import CONFIG, ERROR, FIT_METRICS, HISTORY
from attendgen.utils.files import read_json, write_json

COMPLETE = "complete"
STOPPED_EARLY = "stopped early"
NOT_FINISHED = "not finished"
FAILED = "failed"
NOT_TRAINED = "not trained"  # but made of other runs, as an ensemble


class RunStatus(NamedTuple):
    """How a run ended, in one of the words above, and why."""

    state: str
    reason: str = ""

    def __str__(self) -> str:
        between = f" ({self.reason})" if self.state == COMPLETE and self.reason else f": {self.reason}"
        return self.state + (between if self.reason else "")


def read_status(folder: Path) -> RunStatus:
    """Return how the run in a folder ended; a run that is being trained is not finished.

    Raises:
        UserError: a file of the run is broken.
    """
    if (folder / ERROR).is_file():
        return RunStatus(FAILED, str(read_json(folder / ERROR).get("error", "")))
    sessions = read_history(folder)
    if sessions:
        return RunStatus(str(sessions[-1].get("state", NOT_FINISHED)), str(sessions[-1].get("reason", "")))
    if (folder / FIT_METRICS).is_file() or not (folder / CONFIG).is_file():
        return RunStatus(COMPLETE)
    return RunStatus(NOT_FINISHED)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the sessions of a run, the first one first; empty if the run has no history.

    Raises:
        UserError: the file is broken.
    """
    path = folder / HISTORY
    sessions = read_json(path) if path.is_file() else []
    return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []


def begin_session(folder: Path, changes: list[str], step: int = 0, **details: object) -> None:
    """Add a session to a run's history.

    Args:
        changes: settings from the command line.
        step: after which the session goes on.
        details: more fields, as plain data.
    """
    session = {"started": _now(), "step": step, "changes": changes, **details}
    write_json(folder / HISTORY, [*read_history(folder), session])


def end_session(folder: Path, status: RunStatus, **details: object) -> None:
    """Write how the last session ended into a run's history."""
    *before, last = read_history(folder) or [{}]
    ended = {"ended": _now(), "state": status.state, "reason": status.reason}
    write_json(folder / HISTORY, [*before, {**last, **ended, **details}])


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
