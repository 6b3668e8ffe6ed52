"""A short run of every family, on real data where there is some: train, evaluate, generate or caption.

python scripts/smoke.py --shared ../shared
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
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


def subset(flickr8k: Path, folder: Path, images: int) -> Path:
    """A Flickr8k folder of the first few images, so that features take seconds."""
    folder.mkdir()
    for name in ("Images", "Flickr8k.token.txt"):
        (folder / name).symlink_to(flickr8k.resolve() / name)
    for part in ("train", "dev"):
        name = f"Flickr_8k.{part}Images.txt"
        (folder / name).write_text("\n".join((flickr8k / name).read_text().splitlines()[:images]) + "\n")
    return folder


def main() -> None:
    """Run every family briefly in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder with data/{flickr8k,coco_mini,novels,multi30k}"
    )
    data = parser.parse_args().shared / "data"
    work = Path(tempfile.mkdtemp(prefix="attendgen-smoke-"))
    common = (f"paths.outputs={work}/outputs", f"paths.cache={work}/cache")

    def run(name: str) -> Path:
        return work / name

    def train(name: str, *overrides: str) -> None:
        attendgen("train", f"experiment={name}", f"hydra.run.dir={run(name)}", *common, *overrides)

    try:
        train("toy_chat")
        attendgen("evaluate", run("toy_chat"))
        attendgen("generate", run("toy_chat"), "tu vas bien?", "--attention", work / "chat.png")
        if (data / "multi30k").is_dir():
            few = ("steps=10", "trainer.val_check_interval=10", "+trainer.limit_val_batches=1", "data.batch_size=32")
            for name in ("multi30k_fr_en", "multi30k_fr_en_words"):
                train(name, f"data.root={data / 'multi30k'}", *few, "decoding.max_length=40")
            attendgen("evaluate", run("multi30k_fr_en_words"))
        if (data / "novels").is_dir():
            short = ("steps=20", "trainer.val_check_interval=20", "+trainer.limit_val_batches=4")
            train("novels", f"data.root={data / 'novels'}", *short, "model.hidden=128")
            attendgen("generate", run("novels"), "Call me Ishmael.", "--seed", "1", "--max-length", "80")
            text = work / "text.txt"
            text.write_text((data / "novels" / "dracula.txt").read_text(encoding="utf-8")[:5000], encoding="utf-8")
            attendgen("evaluate", run("novels"), "--text", text)
            train("novels_causal", f"data.root={data / 'novels'}", *short, "model.hidden=128", "model.reach=32")
            attendgen("evaluate", run("novels_causal"), "--text", text, "--dynamic", "0.1")
        weights = data.parent / "checkpoints" / "textgenerate_novels.pt"
        if weights.is_file():
            attendgen("import", "textgenerate", weights, "--out", run("textgenerate"))
            attendgen("generate", run("textgenerate"), "Call me Ishmael.", "--seed", "1", "--max-length", "80")
        if (data / "flickr8k").is_dir():
            root = subset(data / "flickr8k", work / "flickr8k", 64)
            train("flickr8k_soft", f"data.root={root}", "steps=20", "data.batch_size=8")
            attendgen("evaluate", run("flickr8k_soft"), "--split", "dev")
            picture = next((data / "flickr8k" / "Images").glob("*.jpg"))
            attendgen("caption", run("flickr8k_soft"), picture, "--out", work / "captions")
        if (data / "coco_mini").is_dir():
            train("coco_soft", f"data.root={data / 'coco_mini'}", "steps=6", "data.limit=32")
            attendgen("evaluate", run("coco_soft"), "--split", "val")
        train("shapes", "steps=20", "data.limit=256")
        attendgen("runs", work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
