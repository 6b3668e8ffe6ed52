"""Tiny data sets in the layouts of the real ones, and the command lines of trainings on them."""

import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from attendgen.data.loader import ResumableSampler
from helpers.tiny_tables import e2e, rotowire

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
CAPTIONS = ("a {} square on the wall", "the {} picture", "something {} hangs here", "a {} thing", "all is {}")


def image(path: Path, color: str, size: tuple[int, int] = (40, 30)) -> Path:
    """A image of one color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def flickr8k(root: Path) -> Path:
    """Four training and two dev images of one color each, with five captions that name it."""
    lines = []
    for color in COLORS:
        image(root / "Images" / f"{color}.jpg", color)
        lines += [f"{color}.jpg#{i}\t{caption.format(color)} ." for i, caption in enumerate(CAPTIONS)]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (root / "Flickr_8k.trainImages.txt").write_text("".join(f"{color}.jpg\n" for color in COLORS[:4]))
    (root / "Flickr_8k.devImages.txt").write_text("".join(f"{color}.jpg\n" for color in COLORS[4:]))
    return root


def coco(root: Path) -> Path:
    """The same images in COCO's own layout."""
    for part, colors in (("train2017", COLORS[:4]), ("val2017", COLORS[4:])):
        images = [{"id": 10 + i, "file_name": f"{color}.jpg"} for i, color in enumerate(colors)]
        annotations = [
            {"id": 100 * i + j, "image_id": 10 + i, "caption": caption.format(color)}
            for i, color in enumerate(colors)
            for j, caption in enumerate(CAPTIONS)
        ]
        for color in colors:
            image(root / part / f"{color}.jpg", color)
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


CAPTIONER = ["model.encoder.variant=lite0", "model.encoder.pretrained=false", "model.encoder.size=64"]  # 2x2 regions
CAPTIONER += ["model.hidden=8", "model.embedding_dim=8", "data.min_frequency=1", "decoding.max_length=8"]
TABLES = ["model.hidden=8", "model.embedding_dim=8", "model.encoder.dim=8", "model.encoder.embedding_dim=4"]
TABLES += ["data.min_frequency=1", "data.batch_size=2", "decoding.max_length=8"]
SMALL = {
    "flickr8k": CAPTIONER,
    "coco": CAPTIONER,
    "novels": [
        "data.context_len=16",
        "data.seq_len=24",
        "model.hidden=16",
        "data.batch_size=4",
        "decoding.max_length=30",
    ],
    "shapes": ["data.max_samples=8", "+data.source.counts={train: 8, val: 4, test: 4}"],
    "toy": ["decoding.max_length=30"],
    "pairs": ["decoding.max_length=30"],
    "e2e": TABLES,
    "rotowire": TABLES,
    "multi30k": ["model.hidden=8", "model.encoder_hidden=4", "data.batch_size=4", "decoding.max_length=20"],
}

# of experiments with other models than the rest of their family
TRANSFORMER = ["model.dim=8", "model.heads=2", "model.feed_forward=8"]
SMALL |= {
    "flickr8k_transformer": [setting for setting in CAPTIONER if "model.encoder" in setting or "model" not in setting],
    "novels_transformer": [setting for setting in SMALL["novels"] if "model" not in setting],
    "multi30k_fr_en_transformer": [setting for setting in SMALL["multi30k"] if "model" not in setting],
}

# of single experiments: tables of n-grams would make checkpoints of a hundred megabytes
SMALLER = {"novels_lstm": ["model.ngram_rows=128", "model.embedding_dim=16"]}
SMALLER |= {name: TRANSFORMER for name in SMALL if name.endswith("_transformer")}

# ten steps that depend on nothing but the batches; plain gradient descent, because Adam blows up rounding errors
PLAIN = [
    "steps=10",
    "epochs=-1",
    "validate_every=99",
    "trainer.log_every_n_steps=1",
    "callbacks.samples=null",
    "+trainer.limit_val_batches=1",
]
PLAIN += ["task.optimizer._target_=torch.optim.SGD", "task.optimizer.lr=0.1", "model.dropout=0.0"]
FLICKR = ["data.batch_size=1", "data.captions_per_image=3", "model.word_dropout=0.0", "model.memory_dropout=0.0"]
ARGMAX = "task.estimator.sampler._target_=attendgen.layers.ArgmaxSampler"
STEPS = {
    "toy_chat": [*PLAIN, "data.batch_size=5"],
    "novels": [*PLAIN, "data.batch_size=19", "data.short_context_prob=0.0"],
    "flickr8k_soft": [*PLAIN, *FLICKR],
    # at the most probable locations, where nothing is drawn
    "flickr8k_hard": [
        *PLAIN,
        *FLICKR,
        "task/estimator=leave_one_out",
        "task.loss_reduction=per_token",
        "task.doubly_stochastic_weight=0.5",
        ARGMAX,
    ],
}


MAKERS = {"flickr8k": flickr8k, "coco": coco, "novels": novels, "multi30k": multi30k, "e2e": e2e, "rotowire": rotowire}


def arguments(experiment: str, folder: Path, *overrides: str, name: str = "run") -> list[str]:
    """Return the arguments of a training on tiny data in `folder`, whose run directory is `folder/name`."""
    family = experiment.split("_")[0]
    make = MAKERS.get(family)
    root = folder / family
    data = [f"data.root={make(root) if not root.exists() else root}"] if make else []
    common = [f"paths.cache={folder}/cache", f"hydra.run.dir='{folder / name}'", "callbacks.progress=null"]
    common += ["+callbacks.samples.figures=0"]  # each takes some tenths of a second; tests/training/test_logging.py
    small = [*SMALL.get(experiment, SMALL[family]), *SMALLER.get(experiment, [])]
    return [f"experiment={experiment}", *data, *small, *common, *overrides]


class JoinedSampler(ResumableSampler):
    """Every two batches in one."""

    def __len__(self) -> int:
        return -(-len(self.sampler) // 2)

    def __iter__(self) -> Iterator[list]:
        batches = list(self.sampler)
        for i in range(0, len(batches), 2):
            yield [example for batch in batches[i : i + 2] for example in batch]
