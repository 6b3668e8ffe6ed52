"""Random batches as a data module, and a clock, for trainings by `attendgen train`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attendgen.config.trust import trust
from attendgen.data.loader import make_batch_loader
from attendgen.data.module import BaseDataModule
from attendgen.hydra_app.python import train
from attendgen.text.vocabulary import AnyVocabulary
from gpu_sections.families import FAMILIES, list_overrides, make_batch, make_vocabulary

CONF = Path(__file__).parent / "conf"
DIFFERENT = 13  # batches, which repeat
BATCHES = 400  # per epoch: no training of the benchmark ends one


class Batches(Dataset[Any]):
    """Different batches of a family, over and over."""

    def __init__(self, family: str, quick: bool) -> None:
        self.batches = [make_batch(family, seed=seed, quick=quick)._replace(totals=None) for seed in range(DIFFERENT)]

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, index: int) -> Any:
        return self.batches[index % DIFFERENT]


class InOrder(Sampler[list[int]]):
    """Batches of one index each, in order."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[list[int]]:
        yield from ([index] for index in range(BATCHES))


def take_first(items: list[Any]) -> Any:
    """Return the only batch of a list."""
    return items[0]


class SyntheticData(BaseDataModule[Any]):
    """Random batches of a family; settings of other data modules are ignored."""

    def __init__(self, family: str, quick: bool = False, seed: int = 0, **others: Any) -> None:
        super().__init__()
        self.family = family
        self.quick = quick

    def build_vocabulary(self) -> AnyVocabulary:
        """Build the vocabulary of the family."""
        return make_vocabulary(self.family, self.quick)

    def dataset(self, split: str) -> Dataset[Any]:
        """Return the batches; all splits have the same."""
        return Batches(self.family, self.quick)

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        """Return the loader of a split."""
        return make_batch_loader(self, self.dataset(split), InOrder(), take_first, split == "train")

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Return the texts of a first batch for its examples."""
        batch: Any = make_batch(self.family, quick=self.quick)
        vocabulary: Any = make_vocabulary(self.family, self.quick)
        rows = zip(batch.index.tolist(), batch.outputs.tolist(), strict=True)
        return {index: tuple(vocabulary.decode(text) for text in texts) for index, texts in rows}


class StepClock(lightning.Callback):
    """Measure the milliseconds per training step between two steps; `milliseconds` holds those of the last training."""

    milliseconds: ClassVar[float] = 0.0

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.started = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the clock after all work of the device is done."""
        if batch_idx not in (self.first, self.last):
            return
        if torch.cuda.is_available() and pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        if batch_idx == self.first:
            self.started = time.perf_counter()
        else:
            StepClock.milliseconds = 1e3 * (time.perf_counter() - self.started) / (self.last - self.first)


def trust_this_package(folder: Path) -> None:
    """Let resumed runs name the classes of this module, without a change of the user's settings."""
    os.environ["XDG_CONFIG_HOME"] = str(folder.absolute())
    trust(["gpu_sections"])


def train_family(name: str, folder: Path, quick: bool, steps: int, *overrides: str) -> Path:
    """Train a family for some steps on random batches and return the run's folder."""
    trust_this_package(folder.parent)
    settings = [
        f"hydra.searchpath=[file://{CONF}]",
        f"hydra.run.dir={folder}",
        "data=synthetic",
        f"data.family={name}",
        f"data.quick={quick}",
        f"trainer={'cpu' if quick else 'gpu'}",
        "logger=csv",
        "task.schedule.steps=1000",  # else the length of the training
        "monitor.metric=train/loss",
        "monitor.mode=min",
        "++trainer.limit_val_batches=0",
        f"steps={steps}",
    ]
    if FAMILIES[name].kind in ("captions", "pixels", "pairs", "tables"):
        settings.append("task.metrics=[]")  # their packages may be missing
    train([*list_overrides(name, quick), *settings, *overrides])
    return folder


def time_steps(name: str, folder: Path, quick: bool, first: int, last: int, *overrides: str) -> float:
    """Return the milliseconds per step of a training between two of its steps."""
    clock = ["+callbacks.clock._target_=gpu_sections.synthetic.StepClock"]
    clock += [f"+callbacks.clock.first={first}", f"+callbacks.clock.last={last}"]
    StepClock.milliseconds = 0.0
    train_family(name, folder, quick, last + 2, *clock, *overrides)
    return StepClock.milliseconds
