"""A short run of every family, on real data where there is some: train, evaluate, generate or caption.

python scripts/smoke.py --shared ../shared
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ATTENDGEN = Path(sys.executable).with_name("attendgen")


def attendgen(*arguments: str | Path) -> None:
    """Run a command as a user does; stop at the first that fails."""
    started = time.monotonic()
    print("$ attendgen", *arguments, flush=True)
    done = subprocess.run([ATTENDGEN, *arguments], stderr=subprocess.PIPE, text=True)
    print(f"  {time.monotonic() - started:.1f} s", flush=True)
    if done.returncode:
        sys.exit(f"{done.stderr[-4000:]}\nexit code {done.returncode}")


def train(work: Path, name: str, *overrides: str) -> None:
    """Train an experiment in `work/NAME`."""
    common = (f"hydra.run.dir={work / name}", f"paths.outputs={work}/outputs", f"paths.cache={work}/cache")
    attendgen("train", f"experiment={name}", *common, *overrides)


def subset(flickr8k: Path, folder: Path, images: int) -> Path:
    """A Flickr8k folder of the first few images, so that features take seconds."""
    folder.mkdir()
    for name in ("Images", "Flickr8k.token.txt"):
        (folder / name).symlink_to(flickr8k.resolve() / name)
    for part in ("train", "dev"):
        name = f"Flickr_8k.{part}Images.txt"
        (folder / name).write_text("\n".join((flickr8k / name).read_text().splitlines()[:images]) + "\n")
    return folder


def toy_chat(work: Path) -> None:
    """Character pairs that come with the project."""
    train(work, "toy_chat")
    attendgen("evaluate", work / "toy_chat")
    attendgen("generate", work / "toy_chat", "tu vas bien?", "--attention", work / "chat.png")


def multi30k(work: Path, root: Path) -> None:
    """Sentence pairs, by characters and by words."""
    few = ("steps=10", "trainer.val_check_interval=10", "+trainer.limit_val_batches=1", "data.batch_size=32")
    for name in ("multi30k_fr_en", "multi30k_fr_en_words"):
        train(work, name, f"data.root={root}", *few, "decoding.max_length=40")
    attendgen("evaluate", work / "multi30k_fr_en_words")


def novels(work: Path, root: Path) -> None:
    """Language models that read both ways and one way."""
    short = ("steps=20", "trainer.val_check_interval=20", "+trainer.limit_val_batches=4")
    train(work, "novels", f"data.root={root}", *short, "model.hidden=128")
    attendgen("generate", work / "novels", "Call me Ishmael.", "--seed", "1", "--max-length", "80")
    text = work / "text.txt"
    text.write_text((root / "dracula.txt").read_text(encoding="utf-8")[:5000], encoding="utf-8")
    attendgen("evaluate", work / "novels", "--text", text)
    train(work, "novels_lstm", f"data.root={root}", *short, "model.hidden=128", "model.attention_window=32")
    attendgen("evaluate", work / "novels_lstm", "--text", text, "--dynamic-eval-lr", "0.1")


def imported(work: Path, weights: Path) -> None:
    """A checkpoint of another project."""
    attendgen("import", "textgenerate", weights, "--out", work / "textgenerate")
    attendgen("generate", work / "textgenerate", "Call me Ishmael.", "--seed", "1", "--max-length", "80")


def flickr8k(work: Path, root: Path) -> None:
    """The captioner on a few pictures."""
    few = subset(root, work / "flickr8k", 64)
    train(work, "flickr8k_soft", f"data.root={few}", "steps=20", "data.batch_size=8")
    attendgen("evaluate", work / "flickr8k_soft", "--split", "dev")
    picture = next((root / "Images").glob("*.jpg"))
    attendgen("caption", work / "flickr8k_soft", picture, "--out", work / "captions")


def coco(work: Path, root: Path) -> None:
    """The captioner on COCO's own files."""
    train(work, "coco_soft", f"data.root={root}", "steps=6", "data.max_samples=32")
    attendgen("evaluate", work / "coco_soft", "--split", "val")


def shapes(work: Path) -> None:
    """The captioner on drawn pictures."""
    train(work, "shapes", "steps=20", "data.max_samples=256")
    attendgen("runs", work)


def main() -> None:
    """Run every family briefly, each in a temporary folder of its own: their checkpoints together fill a small disk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder with data/{flickr8k,coco_mini,novels,multi30k}"
    )
    shared = parser.parse_args().shared
    data = shared / "data"
    families: list[tuple[Callable[..., None], *tuple[Path, ...]]] = [
        (toy_chat,),
        (multi30k, data / "multi30k"),
        (novels, data / "novels"),
        (imported, shared / "checkpoints" / "textgenerate_novels.pt"),
        (flickr8k, data / "flickr8k"),
        (coco, data / "coco_mini"),
        (shapes,),
    ]
    for family, *sources in families:
        if all(source.exists() for source in sources):
            with tempfile.TemporaryDirectory(prefix="attendgen-smoke-") as work:
                family(Path(work), *sources)


if __name__ == "__main__":
    main()
