"""How fast the language models train and write, and what Lightning costs.

python scripts/benchmark_lm.py --device cpu --precision 32-true

On random characters, on which the time does not depend: characters a second of training for each model, by Lightning
and by a bare PyTorch loop over the same model, loader, optimizer, clipping and schedule; the published network trained
on whole texts against stepping through them as its authors do; and characters a second of a batch of continuations.
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
from attendgen.data.stateful import Streams, StreamSampler, collate_chunks
from torch.utils.data import DataLoader

from attendgen.data.batch import StreamBatch
from attendgen.decoding.config import DecodingConfig
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

SYMBOLS = "".join(map(chr, range(32, 132)))


class Clock(lightning.Callback):
    """When each training step ended."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(now(self.device))


def now(device: torch.device) -> float:
    """The time, with all that was asked of the device done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def median(ends: list[float]) -> float:
    """Seconds a step, leaving out the first two."""
    return statistics.median(after - before for before, after in pairwise(ends[1:]))


def models(symbols: int) -> dict[str, torch.nn.Module]:
    """As large as in `conf/model`, and that of `novels_lstm`."""
    return {
        "lm_lstm": LSTMLanguageModel(symbols),
        "lm_lstm, n-grams": LSTMLanguageModel(symbols, embedding_dim=96, hidden=512, ngrams=5),
        "lm_lstm, attention over 128": LSTMLanguageModel(symbols, attention_window=128),
        "lm_context": ContextLanguageModel(symbols, partial(GeneralAttention, scaled=True)),
        "lm_textgenerate": TextGenerateLanguageModel(symbols),
    }


def loader(steps: int, batch: int, length: int) -> DataLoader[Any]:
    """Streams of random characters, `steps` batches of them."""
    text = torch.randint(4, 4 + len(SYMBOLS), ((steps + 1) * batch * length,), dtype=torch.uint8)
    streams = Streams([text])
    sampler = StreamSampler(streams, batch, length, shuffle=True)
    return DataLoader(streams, batch_sampler=sampler, collate_fn=collate_chunks)


def by_lightning(model: torch.nn.Module, data: DataLoader[Any], steps: int, options: argparse.Namespace) -> float:
    """Seconds a training step of the framework."""
    optimizer = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.0)
    task = LanguageModelTask(
        model,  # type: ignore[arg-type]
        Vocabulary(SYMBOLS),
        optimizer,
        WarmupCosine(steps),
        DecodingConfig(),
    )
    clock = Clock(torch.device(options.device))
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
    return median(clock.ends)


def autocast(options: argparse.Namespace) -> torch.autocast:
    """The precision asked for."""
    return torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16-mixed")


def by_hand(model: torch.nn.Module, data: DataLoader[Any], steps: int, options: argparse.Namespace) -> float:
    """Seconds a training step of a bare loop that computes the same."""
    device = torch.device(options.device)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(steps))
    carried, ends = RecurrentState(), []
    for batch, _ in zip(data, range(steps), strict=False):
        batch = StreamBatch(*(part.to(device) for part in batch[:3]))
        with autocast(options):
            nats, count = masked_cross_entropy(carried.read(model, batch), batch.outputs)  # type: ignore[arg-type]
        optimizer.zero_grad()
        (nats / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ends.append(now(device))
    return median(ends)


def windows(model: torch.nn.Module, steps: int, batch: int, length: int, options: argparse.Namespace) -> float:
    """Seconds a training step over windows with a context of 64."""
    device = torch.device(options.device)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ends = []
    for _ in range(steps):
        ids = torch.randint(4, 104, (batch, 65 + length), device=device)
        with autocast(options):
            logits, _ = model(ids[:, :64], ids[:, 63:-2])
            nats, count = masked_cross_entropy(logits, ids[:, 64:-1])
        optimizer.zero_grad()
        (nats / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ends.append(now(device))
    return median(ends)


def stepped(model: TextGenerateLanguageModel, length: int, repeats: int) -> Iterator[float]:
    """Seconds to train on one text of `length` characters, one character a call of the whole network."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(repeats):
        ids = torch.randint(4, 104, (length + 1,))
        size = 2 * model.lstm.num_layers, 1, model.lstm.hidden_size
        started, state, nats = time.perf_counter(), (torch.zeros(size), torch.zeros(size)), torch.zeros(())
        for t in range(length):
            output, state = model.lstm(model.encoder(ids[t].view(1, 1)), state)
            directions = []
            for direction in output.chunk(2, dim=-1):
                alpha = (direction @ direction.transpose(1, 2)).softmax(dim=-1)
                directions.append(alpha @ direction)
            logits = model.out(model.decoder(torch.cat(directions, dim=-1)))
            nats = nats + torch.nn.functional.cross_entropy(logits[0], ids[t + 1 : t + 2])
        optimizer.zero_grad()
        nats.backward()
        optimizer.step()
        yield time.perf_counter() - started


@torch.inference_mode()
def written(model: Any, dtype: torch.dtype, batch: int, length: int, options: argparse.Namespace) -> float:
    """Characters a second of `batch` continuations, sampled."""
    model = model.to(options.device, dtype).eval()
    context = torch.randint(4, 104, (batch, 60), device=options.device)
    search, seconds = DecodingConfig(max_length=length, temperature=0.7), []
    for _ in range(options.repeats + 1):
        memory, state = model.encode(context)
        started = now(context.device)
        search(model, memory, state, prefix=context[:, -1], eos_id=None)
        seconds.append(now(context.device) - started)
    return batch * length / statistics.median(seconds[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--batch", type=int, default=32, help="streams side by side")
    parser.add_argument("--length", type=int, default=256, help="characters of each in a training step")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only those, as lm_textgenerate; else all")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=64, help="continuations written as one batch")
    parser.add_argument("--symbols", type=int, default=200, help="characters of each continuation")
    options = parser.parse_args()
    known = {name.partition(",")[0] for name in models(4)}
    if odd := set(options.models or ()) - known:
        parser.error(f"--models: no {', '.join(sorted(odd))}; there are {', '.join(sorted(known))}")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    size, data = len(Vocabulary(SYMBOLS)), loader(options.steps, options.batch, options.length)
    characters = options.batch * options.length
    print(f"{options.device}, {options.precision}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")

    chosen = {k: v for k, v in models(size).items() if not options.models or k.partition(",")[0] in options.models}
    rows, rates = [], {}
    for name, model in chosen.items():
        parameters = f"{sum(weight.numel() for weight in model.parameters()):,}"
        if not isinstance(model, StatefulModel):
            seconds = windows(model, options.steps, options.batch, options.length, options)
            rows.append([name, parameters, f"{characters / seconds:,.0f}", "", ""])
            continue
        # in turns, for other work on the machine comes and goes
        pairs = [
            (by_hand(model, data, options.steps, options), by_lightning(model, data, options.steps, options))
            for _ in range(options.repeats)
        ]
        bare, framework = (statistics.median(part) for part in zip(*pairs, strict=True))
        rates[name] = characters / framework
        rows.append(
            [name, parameters, f"{characters / bare:,.0f}", f"{rates[name]:,.0f}", f"{framework / bare - 1:+.1%}"]
        )
    print(f"training, batch {options.batch} x {options.length}, characters a second")
    print_table(["model", "parameters", "bare loop", "Lightning", "Lightning's time"], rows)

    if options.device == "cpu" and "lm_textgenerate" in rates:
        slow = options.length / statistics.median(
            stepped(TextGenerateLanguageModel(size), options.length, options.repeats)
        )
        times = f"{rates['lm_textgenerate'] / slow:.0f}"
        print("the published network, characters a second of training")
        print_table(
            ["stepped, one text", "whole texts", "times"],
            [[f"{slow:,.0f}", f"{rates['lm_textgenerate']:,.0f}", times]],
        )

    print(f"writing {options.samples} continuations of {options.tokens} characters as one batch")
    written_rows = []
    for name, model in chosen.items():
        for dtype in (torch.float32, torch.bfloat16):
            rate = written(model, dtype, options.samples, options.tokens, options)
            written_rows.append([name, str(dtype).removeprefix("torch."), f"{rate:,.0f}", f"{rate / 724:.1f}"])
    print_table(["model", "weights", "characters a second", "times 724"], written_rows)


if __name__ == "__main__":
    main()
