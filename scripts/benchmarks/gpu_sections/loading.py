"""Whether the loader keeps the device busy."""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from attendgen.data.captions.coco import Coco
from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.loader import Loader
from attendgen.data.streams import Streams, StreamSampler, collate_chunks
from data import make_encoder, write_data
from gpu_sections.batches import draw_tokens
from gpu_sections.families import build_task, get_family
from gpu_sections.measure import TrainingStep
from gpu_sections.session import Row, Session

PRECISION = "bf16-mixed"
WARM, STEPS = 8, 40
IMAGES = 12_288
# batches and workers; None: resident
CAPTIONER = tuple((batch, workers) for workers in (None, 8, 0, 4) for batch in (128, 512, 16))
LANGUAGE_MODEL = ((64, 0), (64, 4), (512, 0), (512, 4))
LENGTH = 128  # characters per row of a stream


def measure_loading(session: Session) -> None:
    """Train on features and on streams with different numbers of workers."""
    with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as name:
        folder = Path(name)
        family = get_family("soft_7x7x1280", session.quick)
        sizes = (session.choose(IMAGES, 20), family.regions, family.dim)
        session.attempt("write features", lambda: {"bytes_per_image": write_data(folder, *sizes)}, least=5)
        for batch, workers in session.choose(CAPTIONER, ((2, 0), (2, None))):
            measure = partial(measure_captions, session, folder, batch, workers)
            session.attempt("captioner", measure, batch=batch, workers="resident" if workers is None else workers)
    for batch, workers in session.choose(LANGUAGE_MODEL, ((2, 0),)):
        session.attempt("lm_lstm", partial(measure_streams, session, batch, workers), batch=batch, workers=workers)


def measure_captions(session: Session, folder: Path, batch: int, workers: int | None) -> Row:
    """Measure the captioner on a cache of features on the disk, or on the device if `workers` is None."""
    cache = str(folder / "cache")
    options: Any = {"batch_size": batch, "workers": workers or 0, "resident": workers is None, "min_frequency": 1}
    data: Any = CaptionDataModule(str(folder), partial(Coco), make_encoder(), cache, **options)
    data.dataset("train")
    task, _ = build_task("soft_7x7x1280", session.quick, vocabulary=data.vocabulary)
    data.trainer = describe_trainer(session.device)
    loader = data.train_dataloader()
    return compare_with_resident(session, task, loader, lambda batch: data.on_after_batch_transfer(batch, 0))


def describe_trainer(device: torch.device) -> Any:
    """Return what a data module asks of a trainer in one process, so that it pins the memory of batches for a GPU."""
    strategy = SimpleNamespace(root_device=device)
    alone = {"global_rank": 0, "world_size": 1, "num_devices": 1, "accumulate_grad_batches": 1, "overfit_batches": 0}
    return SimpleNamespace(training=True, strategy=strategy, **alone)


def measure_streams(session: Session, batch: int, workers: int) -> Row:
    """Measure a language model on the streams of one text."""
    task, _ = build_task("lm_lstm", session.quick)
    length = session.choose(LENGTH, 4)
    generator = torch.Generator().manual_seed(0)
    rows = draw_tokens((batch, (WARM + STEPS + 4) * length), len(task.vocabulary), generator)
    streams = Streams([rows.flatten().to(torch.uint8)])
    sampler = StreamSampler(streams, batch, length, shuffle=True)
    options: dict[str, Any] = {"num_workers": workers, "pin_memory": session.device.type == "cuda"}
    loader = Loader(streams, sampler, group=1, collate_fn=collate_chunks, **options)
    return compare_with_resident(session, task, loader)


def compare_with_resident(
    session: Session, task: Any, loader: Iterable[Any], finish: Callable[[Any], Any] = lambda batch: batch
) -> Row:
    """Return the milliseconds per step with a loader, and with the same batches on the device.

    Args:
        finish: what is done with a batch on the device.
    """
    count = session.choose(WARM + STEPS, 3)
    warm = session.choose(WARM, 1)
    batches = []
    started = time.perf_counter()
    for batch in itertools.islice(loader, count):
        batches.append(finish(move_data_to_device(batch, session.device)))
    alone = 1e3 * (time.perf_counter() - started) / len(batches)
    step = TrainingStep(task, batches[0], PRECISION, session.device)
    resident = time_epoch(step, iter(batches), session, warm, lambda batch: batch)
    loaded = time_epoch(step, itertools.islice(loader, count), session, warm, finish)
    return {
        "ms": round(loaded, 3),
        "resident_ms": round(resident, 3),
        "loader_alone_ms": round(alone, 3),
        "idle_share": round(max(0.0, 1 - resident / loaded), 3),
    }


def time_epoch(
    step: TrainingStep, batches: Iterable[Any], session: Session, warm: int, finish: Callable[[Any], Any]
) -> float:
    """Return the milliseconds per step of a training on these batches, without the first `warm`."""
    started, count = 0.0, 0
    for number, batch in enumerate(batches):
        if number == warm:
            read_device(session)
            started, count = time.perf_counter(), 0
        step.batch = finish(move_data_to_device(batch, session.device))
        step()
        count += 1
    read_device(session)
    return 1e3 * (time.perf_counter() - started) / count


def read_device(session: Session) -> None:
    """Wait until the device has done all its work."""
    if session.device.type == "cuda":
        torch.cuda.synchronize()
