"""Speed of the language models: training by Lightning and by a bare loop, and generation.

OMP_NUM_THREADS=1 python scripts/benchmarks/lm.py --precision 32-true

Three tables, on random characters, on which the time does not depend:

1. Characters per second of training for each model, by Lightning and by a bare PyTorch loop with the same model,
   loader, optimizer, gradient clipping and schedule. Models of windows are trained by the bare loop alone.
2. On the CPU: training of the network of the Text-Generation project (TextGenerateLanguageModel) on whole texts,
   against one call of the network per character as its authors do.
3. Characters per second of generating a batch of continuations, in single precision and in bfloat16.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from attendgen.cli.script import script
from attendgen.data.batch import StreamBatch
from attendgen.data.streams import Streams, StreamSampler, collate_chunks
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import StatefulModel
from attendgen.layers.attention import GeneralAttention
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.optim.schedules import WarmupCosine
from attendgen.tasks.language_model import LanguageModelTask, RecurrentState
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.tables import print_table

CHARACTERS = "".join(map(chr, range(32, 132)))
PUBLISHED_RATE = 724  # characters per second that the program of Text-Generation generates on two CPU cores


class StepClock(lightning.Callback):
    """Record when each training step ends."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Record the time."""
        self.ends.append(read_clock(self.device))


def read_clock(device: torch.device) -> float:
    """Return the time after all work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def median_step(ends: list[float]) -> float:
    """Return the median seconds per step, without the first two steps."""
    return statistics.median(after - before for before, after in pairwise(ends[1:]))


def build_models(vocab_size: int) -> dict[str, torch.nn.Module]:
    """Build the models of `conf/model` and that of `novels_lstm`."""
    return {
        "lm_lstm": LSTMLanguageModel(vocab_size),
        "lm_lstm, n-grams": LSTMLanguageModel(vocab_size, embedding_dim=96, hidden=512, ngrams=5),
        "lm_lstm, attention over 128": LSTMLanguageModel(vocab_size, attention_window=128),
        "lm_context": ContextLanguageModel(vocab_size, partial(GeneralAttention, scaled=True)),
        "lm_textgenerate": TextGenerateLanguageModel(vocab_size),
    }


def build_loader(steps: int, batch_size: int, length: int) -> DataLoader[Any]:
    """Return `steps` batches of streams of random characters."""
    text = torch.randint(4, 4 + len(CHARACTERS), ((steps + 1) * batch_size * length,), dtype=torch.uint8)
    streams = Streams([text])
    sampler = StreamSampler(streams, batch_size, length, shuffle=True)
    return DataLoader(streams, batch_sampler=sampler, collate_fn=collate_chunks)


def train_by_lightning(model: Any, data: DataLoader[Any], steps: int, options: argparse.Namespace) -> float:
    """Train by Lightning, and return the seconds per step."""
    optimizer = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.0)
    task = LanguageModelTask(model, Vocabulary(CHARACTERS), optimizer, WarmupCosine(steps), DecodingConfig())
    clock = StepClock(torch.device(options.device))
    trainer = lightning.Trainer(
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision=options.precision,
        max_steps=steps,
        gradient_clip_val=1.0,
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task, train_dataloaders=data)
    return median_step(clock.ends)


def autocast(options: argparse.Namespace) -> torch.autocast:
    """Return the context of the chosen precision."""
    return torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16-mixed")


def train_by_hand(model: Any, data: DataLoader[Any], steps: int, options: argparse.Namespace) -> float:
    """Train by a bare loop that computes what Lightning computes, and return the seconds per step."""
    device = torch.device(options.device)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(steps))
    recurrent, ends = RecurrentState(), []
    for batch, _ in zip(data, range(steps), strict=False):
        batch = StreamBatch(*(part.to(device) for part in batch[:3]))
        with autocast(options):
            nll, count = masked_cross_entropy(recurrent.read(model, batch).logits, batch.outputs)
        optimizer.zero_grad()
        (nll / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ends.append(read_clock(device))
    return median_step(ends)


def train_on_windows(model: Any, steps: int, batch_size: int, length: int, options: argparse.Namespace) -> float:
    """Train on windows with a context of 64 characters, and return the seconds per step."""
    device = torch.device(options.device)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ends = []
    for _ in range(steps):
        ids = torch.randint(4, 104, (batch_size, 65 + length), device=device)
        with autocast(options):
            logits, _ = model(ids[:, :64], ids[:, 63:-2])
            nll, count = masked_cross_entropy(logits, ids[:, 64:-1])
        optimizer.zero_grad()
        (nll / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ends.append(read_clock(device))
    return median_step(ends)


def train_by_character(model: TextGenerateLanguageModel, length: int, repeats: int) -> Iterator[float]:
    """Train on texts of `length` characters with one call of the network per character; yield the seconds per text."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(repeats):
        ids = torch.randint(4, 104, (length + 1,))
        size = 2 * model.lstm.num_layers, 1, model.lstm.hidden_size
        started, state, nll = time.perf_counter(), (torch.zeros(size), torch.zeros(size)), torch.zeros(())
        for t in range(length):
            output, state = model.lstm(model.encoder(ids[t].view(1, 1)), state)
            directions = []
            for direction in output.chunk(2, dim=-1):
                alpha = (direction @ direction.transpose(1, 2)).softmax(dim=-1)
                directions.append(alpha @ direction)
            logits = model.out(model.decoder(torch.cat(directions, dim=-1)))
            nll = nll + torch.nn.functional.cross_entropy(logits[0], ids[t + 1 : t + 2])
        optimizer.zero_grad()
        nll.backward()
        optimizer.step()
        yield time.perf_counter() - started


@torch.inference_mode()
def measure_generation(model: Any, dtype: torch.dtype, options: argparse.Namespace) -> float:
    """Return the characters per second of sampling `options.samples` continuations as one batch."""
    model = model.to(options.device, dtype).eval()
    context = torch.randint(4, 104, (options.samples, 60), device=options.device)
    config, seconds = DecodingConfig(max_length=options.sample_length, temperature=0.7), []
    for _ in range(options.repeats + 1):
        memory, state = model.encode(context)
        started = read_clock(context.device)
        decode(model, memory, state, config, prefix=context[:, -1], eos_id=None)
        seconds.append(read_clock(context.device) - started)
    return options.samples * options.sample_length / statistics.median(seconds[1:])


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default cpu")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"), help="default 32-true")
    parser.add_argument("--batch", type=int, default=32, help="texts read side by side in training (default 32)")
    parser.add_argument("--length", type=int, default=256, help="characters of each text per step (default 256)")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="such as lm_textgenerate (default: all models)")
    parser.add_argument("--steps", type=int, default=12, help="steps per timed training (default 12)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, of which the median counts (default 3)")
    parser.add_argument("--samples", type=int, default=64, help="continuations generated as one batch (default 64)")
    parser.add_argument("--sample-length", type=int, default=200, help="characters per continuation (default 200)")
    options = parser.parse_args()
    known = {name.partition(",")[0] for name in build_models(4)}
    if unknown := set(options.models or ()) - known:
        parser.error(f"--models {' '.join(sorted(unknown))}: unknown; choose from {', '.join(sorted(known))}")
    return options


@script
def main() -> None:
    """Measure all chosen models, and print the tables."""
    options = parse_options()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    vocab_size = len(Vocabulary(CHARACTERS))
    data = build_loader(options.steps, options.batch, options.length)
    characters = options.batch * options.length
    print(f"{options.device}, {options.precision}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")

    models = {
        name: model
        for name, model in build_models(vocab_size).items()
        if not options.models or name.partition(",")[0] in options.models
    }
    rows, rates = [], {}
    for name, model in models.items():
        parameters = f"{sum(weight.numel() for weight in model.parameters()):,}"
        if not isinstance(model, StatefulModel):
            seconds = train_on_windows(model, options.steps, options.batch, options.length, options)
            rows.append([name, parameters, f"{characters / seconds:,.0f}", "", ""])
            continue
        # in turns, so that other work on the machine slows both
        pairs = [
            (
                train_by_hand(model, data, options.steps, options),
                train_by_lightning(model, data, options.steps, options),
            )
            for _ in range(options.repeats)
        ]
        bare, framework = (statistics.median(times) for times in zip(*pairs, strict=True))
        rates[name] = characters / framework
        rows.append(
            [name, parameters, f"{characters / bare:,.0f}", f"{rates[name]:,.0f}", f"{framework / bare - 1:+.1%}"]
        )
    print(f"training, batch {options.batch} x {options.length}, characters per second")
    print_table(["model", "parameters", "bare loop", "Lightning", "Lightning's time"], rows)

    if options.device == "cpu" and "lm_textgenerate" in rates:
        times = train_by_character(TextGenerateLanguageModel(vocab_size), options.length, options.repeats)
        stepped, whole = options.length / statistics.median(times), rates["lm_textgenerate"]
        print("training the network of Text-Generation, characters per second")
        header = ["one character per call", "whole texts", "times faster"]
        print_table(header, [[f"{stepped:,.0f}", f"{whole:,.0f}", f"{whole / stepped:.0f}"]])

    print(f"generating {options.samples} continuations of {options.sample_length} characters as one batch")
    rows = []
    for name, model in models.items():
        for dtype in (torch.float32, torch.bfloat16):
            rate = measure_generation(model, dtype, options)
            rows.append([name, str(dtype).removeprefix("torch."), f"{rate:,.0f}", f"{rate / PUBLISHED_RATE:.1f}"])
    print_table(["model", "weights", "characters/s", "times Text-Generation"], rows)


if __name__ == "__main__":
    main()
