"""Kill trainings at random moments and check that the resumed runs end with the same weights, bit for bit.

python scripts/kill_test.py [--runs 20] [KEY=VALUE ...]

Each run is killed (SIGKILL) once or twice, anywhere between its start and its end, and resumed with `resume=RUN`. Its
last checkpoint (weights, optimizer, schedule) and its best score are compared with those of an uninterrupted run. The
settings are those of `attendgen train`; unless given, a small seq2seq model with dropout that validates several times.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from attendgen.cli.script import script
from attendgen.runs.layout import CHECKPOINTS, CONFIG, FIT_METRICS, LAST
from attendgen.utils.files import read_json
from attendgen.utils.progress import track

ATTENDGEN = Path(sys.executable).with_name("attendgen")
SETTINGS = ["experiment=toy_chat", "epochs=30", "validate_every=4", "model.dropout=0.2"]
SAVE_OFTEN = "callbacks.last.minutes=0.01"  # also within epochs
PARTS = ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers")


def train(arguments: list[str], seconds: float | None = None) -> bool:
    """Train in a process of its own that is killed after some seconds; return whether it ended by itself.

    Raises:
        SystemExit: the training failed.
    """
    process = subprocess.Popen([ATTENDGEN, "train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, messages = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        sys.exit(f"attendgen train {' '.join(arguments)}\n{messages.decode()[-3000:]}")
    return True


def is_equal(one: Any, other: Any) -> bool:
    """Return whether the contents of two checkpoints are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(is_equal(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def read_result(folder: Path) -> dict[str, Any]:
    """Return what finished runs are compared by."""
    checkpoint = torch.load(folder / CHECKPOINTS / LAST, weights_only=True)
    summary = read_json(folder / FIT_METRICS)
    scores = {name: value for name, value in summary.items() if not name.endswith("seconds")}
    return {name: checkpoint[name] for name in PARTS} | {"scores": scores}


def train_with_kills(folder: Path, settings: list[str], duration: float, rng: random.Random) -> int:
    """Train in a folder with one or two kills within `duration` seconds of each start; return the number of kills."""

    def arguments() -> list[str]:
        return [f"resume={folder}"] if (folder / CONFIG).exists() else [*settings, f"hydra.run.dir={folder}"]

    planned = rng.choice((1, 2))
    for kills in range(planned):
        if train(arguments(), rng.uniform(0, duration)):
            return kills
    train(arguments())
    return planned


@script
def main(arguments: list[str] | None = None) -> None:
    """Print how many runs ended identically; the exit code is 1 unless all did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs to kill (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (default 0)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=f"default: {' '.join(SETTINGS)}")
    options = parser.parse_intermixed_args(arguments)
    settings = [*(options.settings or SETTINGS), SAVE_OFTEN]
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="attendgen-kill-") as work:
        reference = Path(work, "reference")
        started = time.monotonic()
        train([*settings, f"hydra.run.dir={reference}"])
        duration = time.monotonic() - started
        expected = read_result(reference)
        print(f"uninterrupted: {expected['global_step']} steps, {duration:.1f} s including the program's start")
        identical = kills = 0
        for number in track(range(options.runs), "kill test", "runs"):
            folder = Path(work, str(number))
            kills += train_with_kills(folder, settings, duration, rng)
            identical += is_equal(expected, read_result(folder))
        print(f"{identical} of {options.runs} runs identical after {kills} kills")
    if identical != options.runs:
        sys.exit(1)


if __name__ == "__main__":
    main()
