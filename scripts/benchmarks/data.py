"""Time and memory of opening a captioned data set of COCO's size with its feature cache.

python scripts/benchmarks/data.py --folder DIR

Writes COCO's annotation file for 118,287 images with five captions each, empty image files, and a sparse cache of their
features into a temporary folder, which takes little space on the disk. A new process then opens them as training does:
annotations, vocabulary, encoded captions, feature cache, loader, and the first batches.
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

from attendgen.cli.script import script
from attendgen.data.captions.coco import Coco
from attendgen.data.captions.digests import SETTLED
from attendgen.data.captions.features import get_cache_key
from attendgen.data.captions.module import CaptionDataModule
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.utils.tables import print_table

COCO_IMAGES = 118_287  # in train2017
COCO_WORDS = 27_000  # distinct words in the training captions
CAPTIONS = 5  # per image
BATCHES = 10  # read after opening


def make_encoder() -> GridEncoder:
    """Make a small encoder with fixed weights, which is never called because all features are cached."""
    torch.manual_seed(0)
    return SmallCNN((8,), size=224, freeze=True)


def write_data(root: Path, images: int, regions: int, dim: int) -> int:
    """Write annotations, images and features; return the bytes of features per image."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(COCO_WORDS)]
    cumulative = np.cumsum([1 / (i + 1) for i in range(COCO_WORDS)]).tolist()  # Zipf's law
    listed, annotations = [], []
    folder = root / "train2017"
    folder.mkdir()
    for i in range(images):
        name = f"{i:012}.jpg"
        (folder / name).touch()
        listed.append({"id": i, "file_name": name, "height": 480, "width": 640, "license": 1, "coco_url": name})
        for j in range(CAPTIONS):
            caption = " ".join(rng.choices(words, cum_weights=cumulative, k=rng.randint(8, 14)))
            annotations.append({"id": CAPTIONS * i + j, "image_id": i, "caption": caption})
    (root / "annotations").mkdir()
    with (root / "annotations" / "captions_train2017.json").open("w") as file:
        json.dump({"images": listed, "annotations": annotations}, file)
    paths = [folder / f"{i:012}.jpg" for i in range(images)]
    (root / "cache").mkdir()
    time.sleep(SETTLED)  # so that the digests of the last images are kept, too
    path = root / "cache" / f"{get_cache_key(make_encoder(), paths, folder=root / 'cache')}.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (images, regions, dim))
    return rows.nbytes // images


class Costs(NamedTuple):
    """Seconds of opening a data set and megabytes in memory.

    Attributes:
        rows_seconds: to read the annotations.
        open_seconds, processor_seconds: until the loader is ready.
        batch_seconds: per batch.
        before, after, peak: megabytes before opening, after it, and at most.
    """

    rows_seconds: float
    open_seconds: float
    processor_seconds: float
    batch_seconds: float
    before: float
    after: float
    peak: float


def measure_memory() -> float:
    """Return the megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure_opening(root: Path) -> Costs:
    """Open the data as training does."""
    encoder = make_encoder()
    before, started, ran = measure_memory(), time.perf_counter(), time.process_time()
    data = CaptionDataModule(str(root), partial(Coco), encoder, str(root / "cache"))
    data.rows("train")
    rows_seconds = time.perf_counter() - started
    data.dataset("train")
    batches = iter(data.train_dataloader())
    open_seconds, processor_seconds = time.perf_counter() - started, time.process_time() - ran
    after = measure_memory()
    started = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    batch_seconds = (time.perf_counter() - started) / BATCHES
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Costs(rows_seconds, open_seconds, processor_seconds, batch_seconds, before, after, peak)


@script
def main() -> None:
    """Write the data, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder (default: the system's)")
    parser.add_argument("--images", type=int, default=COCO_IMAGES, help=f"number of images (default {COCO_IMAGES})")
    parser.add_argument("--grid", default="7x7x1280", help="feature grid, HEIGHTxWIDTHxDIM (default 7x7x1280)")
    options = parser.parse_args()
    height, width, dim = map(int, options.grid.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="attendgen-data-") as name:
        size = write_data(Path(name), options.images, height * width, dim)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            costs = pool.apply(measure_opening, (Path(name),))
    rows = [
        ["features, bytes per image", f"{size:,}"],
        ["annotations read, s", f"{costs.rows_seconds:.1f}"],
        ["everything open, s", f"{costs.open_seconds:.1f}"],
        ["everything open, processor s", f"{costs.processor_seconds:.1f}"],
        ["batch of 32 images, ms", f"{1e3 * costs.batch_seconds:.0f}"],
        ["resident before, MB", f"{costs.before:.0f}"],
        ["resident after, MB", f"{costs.after:.0f}"],
        ["peak, MB", f"{costs.peak:.0f}"],
        ["index, bytes per image", f"{(costs.after - costs.before) * 1e6 / options.images:,.0f}"],
    ]
    print_table([f"{options.images} images, {options.grid}", ""], rows)


if __name__ == "__main__":
    main()
