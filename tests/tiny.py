"""Tiny data sets in the layouts of the real ones."""

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
CAPTIONS = ("a {} square on the wall", "the {} picture", "something {} hangs here", "a {} thing", "all is {}")


def picture(path: Path, colour: str, size: tuple[int, int] = (40, 30)) -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def flickr8k(root: Path) -> Path:
    """Four training and two dev pictures of one colour each, with five captions that name it."""
    lines = []
    for colour in COLOURS:
        picture(root / "Images" / f"{colour}.jpg", colour)
        lines += [f"{colour}.jpg#{i}\t{caption.format(colour)} ." for i, caption in enumerate(CAPTIONS)]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (root / "Flickr_8k.trainImages.txt").write_text("".join(f"{colour}.jpg\n" for colour in COLOURS[:4]))
    (root / "Flickr_8k.devImages.txt").write_text("".join(f"{colour}.jpg\n" for colour in COLOURS[4:]))
    return root


def coco(root: Path) -> Path:
    """The same pictures in COCO's own layout."""
    for part, colours in (("train2017", COLOURS[:4]), ("val2017", COLOURS[4:])):
        images = [{"id": 10 + i, "file_name": f"{colour}.jpg"} for i, colour in enumerate(colours)]
        annotations = [
            {"id": 100 * i + j, "image_id": 10 + i, "caption": caption.format(colour)}
            for i, colour in enumerate(colours)
            for j, caption in enumerate(CAPTIONS)
        ]
        for colour in colours:
            picture(root / part / f"{colour}.jpg", colour)
        (root / "annotations").mkdir(exist_ok=True)
        data = {"images": images, "annotations": annotations}
        (root / "annotations" / f"captions_{part}.json").write_text(json.dumps(data))
    return root


def novels(root: Path) -> Path:
    """Two short texts."""
    root.mkdir(parents=True, exist_ok=True)
    for name, line in (
        ("one", "It was the best of times, it was the worst of times.\n"),
        ("two", "Appelez-moi Ismaël.\n"),
    ):
        (root / f"{name}.txt").write_text(line * (6000 // len(line)), encoding="utf-8")
    return root


def multi30k(root: Path) -> Path:
    """A dozen sentence pairs in each split."""
    root.mkdir(parents=True, exist_ok=True)
    things = (("chien", "dog"), ("chat", "cat"), ("cheval", "horse"))
    does = (("dort", "sleeps"), ("court", "runs"), ("mange", "eats"), ("saute", "jumps"))
    lines = [f"Un {a} {c} dans l'eau.\tA {b} {d} in the water.\n" for a, b in things for c, d in does]
    for split in ("train", "val"):
        (root / f"{split}.fr-en.tsv").write_text("".join(lines), encoding="utf-8")
    return root
