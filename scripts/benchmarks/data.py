"""Time and memory to open a captioned data set of COCO's size, its feature cache included.

python scripts/benchmark_data.py --folder DIR      # DIR may lie on any disk: the pictures and features hold no bytes

Makes, in a temporary folder, COCO's annotation file for 118,287 images with five captions each, empty picture files,
and a sparse cache of their features; then opens them in a fresh process as training does: annotations, vocabulary,
encoded captions, feature cache, loader, and the first batches.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from attendgen.data.captions.digests import SETTLED
from attendgen.data.captions.features import cache_key
from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.captions.sources import Coco
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.utils.tables import print_table

WORDS = 27_000  # different ones in COCO's training captions


def make_encoder() -> GridEncoder:
    """A small one of fixed weights: its features are given."""
    torch.manual_seed(0)
    return SmallCNN((8,), size=224, freeze=True)


def build(root: Path, images: int, regions: int, dim: int) -> int:
    """Write annotations, pictures and features; returns the features' bytes an image."""
    chance = random.Random(0)
    words = [f"w{i}" for i in range(WORDS)]
    weights = [1 / (i + 1) for i in range(WORDS)]  # Zipf's law
    cumulative = np.cumsum(weights).tolist()
    listed, annotations = [], []
    folder = root / "train2017"
    folder.mkdir()
    for i in range(images):
        name = f"{i:012}.jpg"
        (folder / name).touch()
        listed.append({"id": i, "file_name": name, "height": 480, "width": 640, "license": 1, "coco_url": name})
        for j in range(5):
            caption = " ".join(chance.choices(words, cum_weights=cumulative, k=chance.randint(8, 14)))
            annotations.append({"id": 5 * i + j, "image_id": i, "caption": caption})
    (root / "annotations").mkdir()
    with (root / "annotations" / "captions_train2017.json").open("w") as file:
        json.dump({"images": listed, "annotations": annotations}, file)
    paths = [folder / f"{i:012}.jpg" for i in range(images)]
    (root / "cache").mkdir()
    time.sleep(SETTLED)  # so that the digests of the last pictures are kept, too
    path = root / "cache" / f"{cache_key(make_encoder(), paths, folder=root / 'cache')}.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (images, regions, dim))
    return rows.nbytes // images


class Opened(NamedTuple):
    """What opening took, in seconds, and the megabytes in memory before, after, and at most."""

    rows: float
    everything: float
    processor: float
    batch: float
    before: float
    after: float
    peak: float


def resident() -> float:
    """Megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def open_data(root: Path) -> Opened:
    """Open it as training does."""
    encoder = make_encoder()
    before, started, ran = resident(), time.perf_counter(), time.process_time()
    data = CaptionDataModule(str(root), partial(Coco), encoder, str(root / "cache"))
    data.rows("train")
    rows = time.perf_counter() - started
    data.dataset("train")
    batches = iter(data.train_dataloader())
    everything, processor, after = time.perf_counter() - started, time.process_time() - ran, resident()
    started = time.perf_counter()
    for _ in range(10):
        next(batches)
    batch = (time.perf_counter() - started) / 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Opened(rows, everything, processor, batch, before, after, peak)


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--grid", default="7x7x1280", help="regions and their size")
    options = parser.parse_args()
    height, width, dim = map(int, options.grid.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="attendgen-data-") as name:
        each = build(Path(name), options.images, height * width, dim)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(open_data, (Path(name),))
    rows = [
        ["features, bytes an image", f"{each:,}"],
        ["annotations read, s", f"{found.rows:.1f}"],
        ["all open, s", f"{found.everything:.1f}"],
        ["of them a processor core worked, s", f"{found.processor:.1f}"],
        ["a batch of 32 images, ms", f"{1e3 * found.batch:.0f}"],
        ["resident before, MB", f"{found.before:.0f}"],
        ["resident after, MB", f"{found.after:.0f}"],
        ["peak, MB", f"{found.peak:.0f}"],
        ["index, bytes an image", f"{(found.after - found.before) * 1e6 / options.images:,.0f}"],
    ]
    print_table([f"{options.images} images, {options.grid}", ""], rows)


if __name__ == "__main__":
    main()
