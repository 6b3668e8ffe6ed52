"""Run every family briefly on real data: train, evaluate, generate or caption (make smoke).

python scripts/smoke.py --shared ../shared
"""

import argparse
import contextlib
import functools
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from attendgen.cli.app import app
from attendgen.cli.script import script
from attendgen.utils.exit_codes import run_command

NO_PROGRESS_BAR = ("callbacks.progress=null",)


def attendgen(*arguments: str | Path) -> None:
    """Run a command in this process, which saves its start; end the program if the command fails."""
    started = time.monotonic()
    print("$ attendgen", *arguments, flush=True)
    messages = io.StringIO()  # also progress bars
    with contextlib.redirect_stderr(messages):
        code = run_command(functools.partial(app, [str(argument) for argument in arguments], standalone_mode=False))
    print(f"  {time.monotonic() - started:.1f} s", flush=True)
    if code:
        sys.exit(f"{messages.getvalue()[-4000:]}\nexit code {code}")


def train(work: Path, experiment: str, *overrides: str) -> Path:
    """Train an experiment, and return its run directory `work/EXPERIMENT`."""
    folder = work / experiment
    paths = (f"hydra.run.dir={folder}", f"paths.outputs={work}/outputs", f"paths.cache={work}/cache")
    attendgen("train", f"experiment={experiment}", *paths, *NO_PROGRESS_BAR, *overrides)
    return folder


def run_toy_chat(work: Path) -> None:
    """Run a character model of sentence pairs that come with the project."""
    run = train(work, "toy_chat", "epochs=10")
    attendgen("evaluate", run)
    attendgen("generate", run, "tu vas bien?", "--attention", work / "chat.png")


def run_multi30k(work: Path, root: Path) -> None:
    """Run a word model of sentence pairs."""
    few = ("steps=4", "trainer.val_check_interval=4", "+trainer.limit_val_batches=1", "data.batch_size=16")
    run = train(work, "multi30k_fr_en_words", f"data.root={root}", *few, "decoding.max_length=20")
    attendgen("generate", run, "Un homme dort.", "--beam", "3", "--max-length", "20")


def run_novels(work: Path, root: Path) -> None:
    """Run a language model of windows and one of streams."""
    few = ("steps=4", "trainer.val_check_interval=4", "+trainer.limit_val_batches=2", "model.hidden=128")
    text = work / "text.txt"
    text.write_text((root / "dracula.txt").read_text(encoding="utf-8")[:2000], encoding="utf-8")
    run = train(work, "novels", f"data.root={root}", *few)
    attendgen("generate", run, "Call me Ishmael.", "--seed", "1", "--max-length", "80")
    attendgen("evaluate", run, "--text", text)
    run = train(work, "novels_lstm", f"data.root={root}", *few, "model.attention_window=32")
    attendgen("evaluate", run, "--text", text, "--dynamic-eval-lr", "0.1")


def run_textgenerate(work: Path, weights: Path) -> None:
    """Import a checkpoint of Text-Generation."""
    run = work / "textgenerate"
    attendgen("import", "textgenerate", weights, "--out", run)
    attendgen("generate", run, "Call me Ishmael.", "--seed", "1", "--max-length", "80")


def run_e2e(work: Path, root: Path) -> None:
    """Run a writer of texts about tables."""
    few = ("steps=4", "trainer.val_check_interval=4", "+trainer.limit_val_batches=1", "data.batch_size=16")
    run = train(work, "e2e_cleaned", f"data.root={root}", *few, "decoding.max_length=20")
    attendgen("generate", run, "name[The Eagle], food[French]", "--beam", "3", "--facts", "--max-length", "20")


def run_flickr8k(work: Path, root: Path) -> None:
    """Run a captioner with soft attention on Flickr8k."""
    run = train(work, "flickr8k_soft", f"data.root={root}", "steps=4", "data.max_samples=16", "data.batch_size=8")
    attendgen("evaluate", run, "--split", "dev")
    attendgen("caption", run, next((root / "Images").glob("*.jpg")), "--out", work / "captions")


def run_coco(work: Path, root: Path) -> None:
    """Run a captioner with hard attention on COCO's own files."""
    train(work, "coco_hard", f"data.root={root}", "steps=2", "data.max_samples=8", "data.batch_size=4")


def run_shapes(work: Path) -> None:
    """Run a captioner whose encoder is trained, too."""
    train(work, "shapes", "+data.source.counts={train:64,val:16,test:16}", "epochs=2")
    attendgen("runs", work)


class Smoke(NamedTuple):
    """A short run, and the data below the shared folder that it needs."""

    run: Callable[..., None]
    sources: tuple[str, ...] = ()


SMOKES = (
    Smoke(run_toy_chat),
    Smoke(run_multi30k, ("data/multi30k",)),
    Smoke(run_novels, ("data/novels",)),
    Smoke(run_textgenerate, ("checkpoints/textgenerate_novels.pt",)),
    Smoke(run_e2e, ("data/e2e",)),
    Smoke(run_flickr8k, ("data/flickr8k",)),
    Smoke(run_coco, ("data/coco_mini",)),
    Smoke(run_shapes),
)


@script
def main() -> None:
    """Run all families whose data is there, each in a temporary folder of its own, which limits the disk space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared",
        type=Path,
        required=True,
        help="folder of data/{coco_mini,e2e,flickr8k,multi30k,novels} and checkpoints; what is missing is skipped",
    )
    shared = parser.parse_args().shared
    started = time.monotonic()
    for run, names in SMOKES:
        sources = [shared / name for name in names]
        if missing := [str(source) for source in sources if not source.exists()]:
            print(f"{run.__name__}: skipped, {', '.join(missing)} is missing")
            continue
        with tempfile.TemporaryDirectory(prefix="attendgen-smoke-") as work:
            run(Path(work), *sources)
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
