import pytest

from attendgen.utils import progress
from attendgen.utils.progress import Progress


def test_output_that_is_no_terminal_gets_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Progress("lines", "lines", total=1200, done=1000) as shown:
        shown.add(100)
        assert capfd.readouterr().err == ""
        monkeypatch.setattr(progress, "EVERY", 0.0)
        shown.add(50)
    err = capfd.readouterr().err
    assert err.startswith("lines: 1,150 of 1,200 lines, ")
    assert "\r" not in err


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("lines", "lines", total=12) as shown:
        shown.add(12)
    assert "0/12" in capfd.readouterr().err
    assert shown.bar.n == 12
