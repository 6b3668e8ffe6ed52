"""Caption data sets of five images, in the layouts of Flickr8k, COCO and Karpathy's splits."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN = {
    "a.png": ["A dog runs .", "The dog's ball", "a dog and a cat"],
    "b.png": ["A cat sleeps ."],
    "c.png": ["two cats", "Cats !", "a cat , a cat", "some cats", "one more", "the last"],
}
VAL = {"d.png": ["A zebra"], "e.png": ["a dog", "a DOG .", "dogs", "a puppy"]}
SPLITS = {"train": TRAIN, "val": VAL}


def paint(folder: Path, names: Iterable[str], seed: int = 0) -> list[Path]:
    """Save images of random pixels and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / name for name in names]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return paths


def make_flickr8k(root: Path) -> Path:
    """Make a data set in Flickr8k's layout."""
    paint(root / "Images", [*TRAIN, *VAL])
    (root / "Flickr_8k.trainImages.txt").write_text("\n".join(TRAIN) + "\n")
    (root / "Flickr_8k.devImages.txt").write_text("\n".join(VAL) + "\n")
    lines = [f"{name}#{i}\t{caption}" for name, all in {**VAL, **TRAIN}.items() for i, caption in enumerate(all)]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return root


def coco_json(captions: dict[str, list[str]]) -> dict[str, Any]:
    """Return COCO's JSON with ids that are not in the order of the file."""
    ids = {name: 90 - place for place, name in enumerate(captions)}
    pairs = [(name, caption) for name, all in captions.items() for caption in all]
    return {
        "info": {},
        "images": [{"id": ids[name], "file_name": name} for name in captions],
        "annotations": [{"id": k, "image_id": ids[name], "caption": text} for k, (name, text) in enumerate(pairs)],
    }


def make_coco(root: Path) -> Path:
    """Make a data set in COCO's layout."""
    (root / "annotations").mkdir(parents=True)
    for split, captions in SPLITS.items():
        paint(root / f"{split}2017", captions)
        (root / f"annotations/captions_{split}2017.json").write_text(json.dumps(coco_json(captions)))
    return root


def karpathy_json() -> dict[str, Any]:
    """Return Karpathy's JSON, in which the images have other splits."""
    splits = {"a.png": "train", "b.png": "restval", "c.png": "train", "d.png": "val", "e.png": "test"}
    return {
        "images": [
            {
                "split": splits[name],
                "filename": name,
                "filepath": "val2014" if splits[name] != "train" else "train2014",
                "cocoid": 1000 + place,
                "sentences": [{"raw": caption, "tokens": ["not", "these"]} for caption in captions],
            }
            for place, (name, captions) in enumerate({**TRAIN, **VAL}.items())
        ],
        "dataset": "coco",
    }


def make_karpathy(root: Path) -> Path:
    """Make a data set in the layout of Karpathy's COCO splits."""
    paint(root / "train2014", ["a.png", "c.png"])
    paint(root / "val2014", ["b.png", "d.png", "e.png"])
    (root / "dataset_coco.json").write_text(json.dumps(karpathy_json()))
    return root


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place: `change` edits its value or returns another one."""
    data = json.loads(path.read_text())
    path.write_text(json.dumps(change(data) or data))
