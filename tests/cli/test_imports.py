"""Commands import what they need alone, so that they start fast."""

import json
import os
import subprocess
import sys

import pytest

# runs a command and prints which modules it has imported
PROGRAM = """
import json, sys
sys.argv = ["attendgen", *sys.argv[1:]]
from attendgen.cli.app import main
try:
    main()
except SystemExit as stop:
    code = stop.code or 0
print()
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported(*arguments: str) -> set[str]:
    """Return the top-level packages that a command has imported when it ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    code, names = json.loads(ended.stdout.splitlines()[-1])
    assert code == 0, ended.stderr
    assert "attendgen" in names
    return set(names)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--version"], ["--help"], ["runs", "."], ["train", "--help"], ["runs", "--bundled"], ["trust"]],
    ids=str,
)
def test_commands_without_a_model_import_no_torch(tmp_path, monkeypatch, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    found = imported(*arguments)
    assert not found & {"torch", "lightning", "torchvision", "matplotlib", "numpy"}


def test_generate_imports_nothing_of_training_images_or_metrics() -> None:
    found = imported("generate", "toy-chat", "Tu vas bien ?")
    assert "torch" in found
    unneeded = {"lightning", "torchvision", "matplotlib", "pycocotools", "pycocoevalcap", "sacrebleu", "torchmetrics"}
    assert not found & unneeded
