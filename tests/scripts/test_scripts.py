"""Every script can be loaded and describes its options."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PATHS = [path for path in SCRIPTS.rglob("*.py") if not (path.parent / "__init__.py").exists()]  # others are modules
NAMES = sorted(str(path.relative_to(SCRIPTS).with_suffix("")) for path in PATHS)
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


def test_the_variance_of_an_estimator_of_ones_own_is_measured(load_script, runs, tmp_path, capsys):
    name = "attendgen.losses.SoftBaselineEstimator"
    figure = tmp_path / "variance.png"
    main = load_script("gradient_variance").main
    main([str(runs("shapes")), "--out", str(figure), "--samples", "4", "--estimator", name])
    assert figure.exists()
    assert name in capsys.readouterr().out
