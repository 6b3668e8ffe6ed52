"""Every end of a program has one exit code."""

import errno
import signal

import pytest

from attendgen.utils.errors import DivergedError, Interrupted, UserError
from attendgen.utils.exit_codes import run_command


def end_with(error: BaseException):
    def command() -> None:
        raise error

    return command


LOWER = "lower --beam, --max-length, data.batch_size or model.hidden\n"
ENDS = [
    (UserError("data.tsv: line 3:\n no tab"), 2, "name: data.tsv: line 3: no tab\n"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a"), 1, "name: a: File name too long; give a shorter one\n"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800 bytes. Error code 12"),
        1,
        f"name: can't allocate memory: you tried to allocate 800 bytes; {LOWER}",
    ),
    (MemoryError(), 1, f"name: MemoryError; {LOWER}"),
    (DivergedError("the loss is nan"), 1, "name: the loss is nan\n"),
    (Interrupted(signal.SIGTERM, 5), 143, "name: stopped by SIGTERM after step 5\n"),
    (Interrupted(signal.SIGINT, 5), 130, "name: stopped by SIGINT after step 5\n"),
    (KeyboardInterrupt(), 130, "name: interrupted\n"),
]


@pytest.mark.parametrize(("error", "code", "line"), ENDS, ids=lambda value: type(value).__name__)
def test_an_end_has_a_code_and_a_line_that_only_one_process_prints(
    capfd: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert run_command(end_with(error), "name") == code
    assert capfd.readouterr().err == line
    assert run_command(end_with(error), silent=True) == code
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("silent", [False, True])
def test_an_unexpected_error_is_always_a_traceback(capfd: pytest.CaptureFixture[str], silent: bool) -> None:
    assert run_command(end_with(ZeroDivisionError("x")), silent=silent) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (3, 3), ("text", 0)])
def test_a_command_may_choose_its_code(returned: object, code: int) -> None:
    assert run_command(lambda: returned) == code
