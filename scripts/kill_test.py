"""Kill a training at random moments and see whether it ends, continued, with the same weights bit for bit.

python scripts/kill_test.py [--runs 20] [KEY=VALUE ...]

Each run is killed (SIGKILL) once or twice, anywhere between its start and its end, and continued with `resume=RUN`. Its
last checkpoint (weights, optimizer, schedule) and its best score are compared with those of a run that nobody killed.
Settings are those of `attendgen train`; unless given, a small seq2seq with dropout that validates within the run.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

ATTENDGEN = Path(sys.executable).with_name("attendgen")
SETTINGS = ["experiment=toy_chat", "epochs=30", "validate_every=4", "model.dropout=0.2"]
OFTEN = "callbacks.last.minutes=0.01"  # saved within epochs, too
PARTS = ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers")


def train(arguments: list[str], seconds: float | None = None) -> bool:
    """Train in a process of its own, killed after so many seconds; whether it ended by itself."""
    process = subprocess.Popen([ATTENDGEN, "train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        sys.exit(f"attendgen train {' '.join(arguments)}\n{said.decode()[-3000:]}")
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints' contents are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def ended(folder: Path) -> dict[str, Any]:
    """What a finished run is compared by."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    summary = json.loads((folder / "metrics_fit.json").read_text())
    scores = {name: value for name, value in summary.items() if not name.endswith("seconds")}
    return {name: checkpoint[name] for name in PARTS} | {"scores": scores}


def main() -> None:
    """Print how many runs ended identical; exit code 1 unless all did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_intermixed_args()
    settings = [*(options.settings or SETTINGS), OFTEN]
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="attendgen-kill-") as work:
        straight = Path(work, "straight")
        started = time.monotonic()
        train([*settings, f"hydra.run.dir={straight}"])
        duration = time.monotonic() - started
        wanted = ended(straight)
        print(f"uninterrupted: {wanted['global_step']} steps, {duration:.1f} s with the start of the program")
        identical = kills = 0
        for number in tqdm(range(options.runs), unit="run"):
            folder = Path(work, str(number))
            begin, again = [*settings, f"hydra.run.dir={folder}"], [f"resume={folder}"]
            for _ in range(chance.choice((1, 2))):
                alive = train(again if (folder / "config.yaml").exists() else begin, chance.uniform(0, duration))
                kills += not alive
                if alive:
                    break
            else:
                train(again if (folder / "config.yaml").exists() else begin)
            identical += same(wanted, ended(folder))
        print(f"{identical} of {options.runs} identical after {kills} kills")
    sys.exit(identical != options.runs)


if __name__ == "__main__":
    main()
