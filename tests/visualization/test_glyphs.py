"""Characters without a glyph are named once."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from attendgen.visualization import glyphs, plotting


def test_missing_glyphs_are_one_warning_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(glyphs, "warned", set())
    monkeypatch.setattr(plotting, "list_fonts", lambda first=plotting.FONT: [first])  # others may be installed here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "b.png"):
            plotting.save(plotting.plot_alignment(["我", "们"], ["a"], np.ones((1, 2)) / 2), tmp_path / name)
    (message,) = [record.getMessage() for record in caplog.records if "no installed font" in record.getMessage()]
    assert "我 (U+6211)" in message


def test_other_warnings_are_passed_on() -> None:
    with pytest.warns(UserWarning, match="something else"), glyphs.collect_missing_glyphs():
        warnings.warn("something else", UserWarning, stacklevel=1)
