"""Every script can be loaded and describes its options."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = sorted(str(path.relative_to(SCRIPTS).with_suffix("")) for path in SCRIPTS.rglob("*.py"))
WITHOUT_OPTIONS = {"demo"}


@pytest.mark.parametrize("name", NAMES)
def test_help_begins_with_the_docstring(name, load_script, monkeypatch, capsys):
    script = load_script(name)
    if name in WITHOUT_OPTIONS:
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        script.main()
    assert not stop.value.code
    assert script.__doc__.splitlines()[0] in capsys.readouterr().out
