import io
import re
from pathlib import Path

import pytest

import attendgen
from attendgen.utils import progress
from attendgen.utils.downloads import copy
from attendgen.utils.progress import Progress, track


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
    monkeypatch.setattr(progress, "DELAY", 0.0)
    with Progress("lines", "lines", total=12) as shown:
        shown.add(12)
    assert "0/12" in capfd.readouterr().err
    assert shown.bar.n == 12


def test_items_are_counted(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY", -1.0)
    assert list(track(iter("ab"), "letters", "items")) == ["a", "b"]
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("letters: 1 items, ")
    assert second.startswith("letters: 2 items, ")
    copy(io.BytesIO(b"abc"), io.BytesIO(), "file.zip", 2, 5)
    assert capfd.readouterr().err.startswith("file.zip: 5 of 5 bytes, ")


def test_bars_have_one_home() -> None:
    """Each bar of tqdm elsewhere would write carriage returns into files."""
    root = Path(attendgen.__file__).parent
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    drawing = {name for name, text in texts.items() if re.search(r"import.*(tqdm|TQDM|rich.progress)", text)}
    assert drawing == {"utils/progress.py", "callbacks/progress.py"}
