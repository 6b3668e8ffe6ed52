"""Time, memory and work of a captioner's training step: a plain reference, the equations of the source, the fast path.

OMP_NUM_THREADS=1 python scripts/benchmarks/captioner.py

All three train the model of `model=captioner` (random weights, random features instead of images) on the same batch:
forward, cross-entropy with the doubly stochastic penalty, backward.

- reference: one image copy per caption; features, words and logits are projected inside the loop over time.
- equations: the model with `BahdanauDecoder(fast=False)` and `AdditiveAttention(fused=False)`.
- fast: the model as it is trained.

The default of 16 words per caption is the mean length of `flickr8k_soft`'s batches of 32 images. Each measurement runs
in a process of its own, whose peak resident memory is reported (on a GPU, the peak of the memory allocated there). The
two ratios compare wall-clock time and processor time with those of the reference; other programs disturb the second
less.

Work is counted from PyTorch's operations: floating-point operations of matrix products, and bytes that all other
operations read and write. The last two columns are the work per second relative to one large matrix product and to one
large copy.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from attendgen.cli.script import script
from attendgen.data.batch import is_token
from attendgen.layers.attention import AdditiveAttention
from attendgen.losses.cross_entropy import doubly_stochastic, masked_cross_entropy
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.utils.tables import print_table

WAYS = ("reference", "equations", "fast")
GRIDS = ("7x7x1280", "14x14x2048")
VOCAB_SIZE = 2550  # of Flickr8k


class ByteCounter(TorchDispatchMode):
    """Count the bytes that operations read and write, except matrix products and views."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        result = function(*arguments, **(settings or {}))
        if not function.is_view and "mm" not in function.__name__:  # the work of matrix products is counted in flops
            tensors = (leaf for leaf in tree_leaves((arguments, result)) if isinstance(leaf, Tensor))
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def run_reference(model: Captioner, features: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and alphas of `model.forward`, computed by a plain loop with the model's parameters.

    The model must have one-layer additive attention, one-layer first states, a context gate and deep output.
    """
    decoder: Any = model.decoder  # its optional parts are there
    attention: Any = decoder.attention
    deep_hidden: Any = model.deep_hidden
    deep_context: Any = model.deep_context
    first_hidden: Any = model.first_hidden
    first_cell: Any = model.first_cell
    copies = features.repeat_interleave(inputs.size(1), dim=0)  # rows regions dim
    tokens = inputs.flatten(0, 1)
    mean = model.feature_proj(copies).mean(dim=1)
    hidden, cell = torch.tanh(first_hidden(mean)), torch.tanh(first_cell(mean))
    logits, alphas = [], []
    for t in range(tokens.size(1)):
        word = model.embedding(tokens[:, t])
        values = model.feature_proj(copies)
        scores = attention.score(torch.tanh(attention.key_proj(values) + attention.query_proj(hidden).unsqueeze(1)))
        alpha = scores.squeeze(-1).softmax(dim=-1)
        context = torch.sigmoid(decoder.context_gate(hidden)) * (alpha.unsqueeze(-1) * values).sum(dim=1)
        gates = decoder.input_gates(word) + decoder.recurrent_gates(torch.cat([context, hidden], dim=-1))
        i, f, g, o = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        deep = torch.tanh(word + deep_hidden(model.dropout(hidden)) + deep_context(context))
        logits.append(model.output(model.dropout(deep)))
        alphas.append(alpha)
    shape = (len(features), -1)
    return torch.stack(logits, dim=1).unflatten(0, shape), torch.stack(alphas, dim=1).unflatten(0, shape)


def build_model(way: str, dim: int, vocab_size: int = VOCAB_SIZE, **sizes: Any) -> Captioner:
    """Build the captioner for one of `WAYS`; the encoder is never called."""
    encoder = SmallCNN((8,), size=8)
    encoder.dim = dim
    attention = partial(AdditiveAttention, dim=sizes.pop("attention_dim", 512), fused=way == "fast")
    model = Captioner(vocab_size, encoder, attention, **sizes)
    model.decoder.fast = way == "fast"
    return model


def run_step(model: Captioner, way: str, features: Tensor, inputs: Tensor, targets: Tensor) -> None:
    """Compute a training step's loss and leave its gradients in the parameters."""
    model.zero_grad(set_to_none=True)
    logits, alphas = run_reference(model, features, inputs) if way == "reference" else model(features, inputs)
    nll, count = masked_cross_entropy(logits, targets)
    (nll / count + 0.02 * doubly_stochastic(alphas, is_token(targets)).mean()).backward()


def time_work(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """Return the least wall-clock and processor seconds of several calls."""
    wall, processor = [], []
    for _ in range(repeats):
        started, ran = time.perf_counter(), time.process_time()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - ran)
    return min(wall), min(processor)


class StepCost(NamedTuple):
    """The cost of one training step."""

    seconds: float
    processor_seconds: float
    peak_megabytes: float
    flops: float
    bytes_moved: float


def measure_step(grid: str, way: str, options: argparse.Namespace) -> StepCost:
    """Measure one training step."""
    torch.manual_seed(0)
    height, width, dim = map(int, grid.split("x"))
    model = build_model(way, dim).train().to(options.device)
    features = torch.randn(options.images, height * width, dim, device=options.device)
    tokens = torch.randint(4, VOCAB_SIZE, (options.images, options.captions, options.words + 1), device=options.device)
    autocast = torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16")

    def work() -> None:
        with autocast:
            run_step(model, way, features, tokens[..., :-1], tokens[..., 1:])

    with ByteCounter() as counter, FlopCounterMode(display=False) as flops:
        work()  # also warms up
    if options.device == "cuda":
        torch.cuda.synchronize()
    times = time_work(work, options.repeats, options.device)
    if options.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e6
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return StepCost(*times, peak, flops.get_total_flops(), counter.moved)


def measure_ceilings(options: argparse.Namespace) -> tuple[float, float]:
    """Measure the floating-point operations per second of a large matrix product and the bytes per second of a copy."""
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    size = 8192 if options.device == "cuda" else 2048
    left = torch.randn(size, size, device=options.device, dtype=dtype)
    left @ left
    flops = 2 * size**3 / time_work(lambda: left @ left, 5, options.device)[0]
    source = torch.randn(2**26, device=options.device)
    target = torch.empty_like(source)
    return flops, 2 * source.nbytes / time_work(lambda: target.copy_(source), 5, options.device)[0]


def call_in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="images per batch (default 32)")
    parser.add_argument("--captions", type=int, default=5, help="captions per image (default 5)")
    parser.add_argument("--words", type=int, default=16, help="words per caption, <eos> included (default 16)")
    parser.add_argument(
        "--grids", nargs="+", default=GRIDS, help=f"feature grids, HEIGHTxWIDTHxDIM (default {' '.join(GRIDS)})"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="implementations to measure (default: all)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed steps, of which the fastest counts (default 3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default fp32")
    return parser.parse_args()


@script
def main() -> None:
    """Measure all grids and implementations, and print a table."""
    options = parse_options()
    peak_flops, peak_bytes = call_in_process(measure_ceilings, options)
    rows = []
    for grid in options.grids:
        costs = {way: call_in_process(measure_step, grid, way, options) for way in options.ways}
        base = costs.get("reference")
        for way, cost in costs.items():
            rows.append(
                [
                    grid,
                    way,
                    f"{cost.seconds:.3f}",
                    f"{options.images * options.captions / cost.seconds:.0f}",
                    f"{base.seconds / cost.seconds:.1f}" if base else "",
                    f"{cost.processor_seconds:.2f}",
                    f"{base.processor_seconds / cost.processor_seconds:.1f}" if base else "",
                    f"{cost.peak_megabytes:.0f}",
                    f"{cost.flops / peak_flops / cost.seconds:.0%}",
                    f"{cost.bytes_moved / peak_bytes / cost.seconds:.0%}",
                ]
            )
    print(
        f"{options.images} images with {options.captions} captions of {options.words} words each, {options.device}, "
        f"{options.precision}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; "
        f"ceilings {peak_flops / 1e9:.0f} Gflop/s, {peak_bytes / 1e9:.1f} GB/s"
    )
    header = ["grid", "way", "s/step", "captions/s", "times faster", "CPU s", "times less", "peak MB", "matrix", "copy"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
