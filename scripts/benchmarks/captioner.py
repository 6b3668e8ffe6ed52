"""Seconds and peak memory of a captioner's training step, against a plain one that goes step by step.

python scripts/benchmark_captioner.py

Both train the model of `model=captioner` (its sizes, random weights, given annotation vectors) on the same batch:
forward, cross-entropy with the doubly stochastic penalty, backward. The plain one (tests/stepwise.py) has an image copy
for every caption and projects annotation vectors, words and logits within the loop over time. Sixteen words is how long
`flickr8k_soft`'s batches of 32 images are on average. Each way runs in a process of its own, whose peak resident memory
is given (on a GPU, the peak of what was allocated there).

Two ratios are given: of the time, and of the time that processor cores worked, which other programs disturb less (with
OMP_NUM_THREADS=1 least of all).

Work is counted as PyTorch's operations do it: matrix products by their floating-point operations, and all others by the
bytes they read and write. The shares say how near each comes to the speed of one large matrix product and of a copy.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from attendgen.data.batch import is_token
from attendgen.layers.attention import AdditiveAttention
from attendgen.losses.cross_entropy import doubly_stochastic, masked_cross_entropy
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.utils.tables import print_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.stepwise import teacher_forced  # type: ignore[import-not-found]

GRIDS = ("7x7x1280", "14x14x2048")
SYMBOLS = 2550  # of Flickr8k's vocabulary


class Bytes(TorchDispatchMode):
    """Counts the bytes that operations read and write; a view moves none."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        result = function(*arguments, **(settings or {}))
        if not function.is_view and "mm" not in function.__name__:  # matrix products are counted by their operations
            tensors = (leaf for leaf in tree_leaves((arguments, result)) if isinstance(leaf, Tensor))
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def step(model: Captioner, plain: bool, images: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """Forward and backward; gradients are left in the parameters."""
    model.zero_grad(set_to_none=True)
    logits, alphas = teacher_forced(model, images, inputs) if plain else model(images, inputs)
    nats, words = masked_cross_entropy(logits, outputs)
    (nats / words + 0.02 * doubly_stochastic(alphas, is_token(outputs)).mean()).backward()


def seconds(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """The time that some work takes, and that of all processor cores: the least of some trials."""
    times, processor = [], []
    for _ in range(repeats):
        started, ran = time.perf_counter(), time.process_time()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        processor.append(time.process_time() - ran)
    return min(times), min(processor)


class Measured(NamedTuple):
    """Of a training step."""

    seconds: float
    processor: float
    peak: float  # megabytes
    flops: float
    moved: float  # bytes


def measure(grid: str, plain: bool, options: argparse.Namespace) -> Measured:
    """A training step's time, memory and work."""
    torch.manual_seed(0)
    height, width, dim = map(int, grid.split("x"))
    encoder = SmallCNN((8,), size=8)
    encoder.dim = dim  # annotation vectors are given: the encoder is never asked
    model = Captioner(SYMBOLS, encoder, partial(AdditiveAttention, dim=512)).train().to(options.device)
    images = torch.randn(options.images, height * width, dim, device=options.device)
    words = torch.randint(4, SYMBOLS, (options.images, options.captions, options.words + 1), device=options.device)
    bf16 = torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16")

    def work() -> None:
        with bf16:
            step(model, plain, images, words[..., :-1], words[..., 1:])

    with Bytes() as moved, FlopCounterMode(display=False) as flops:
        work()  # and warm up
    if options.device == "cuda":
        torch.cuda.synchronize()
    times = seconds(work, options.repeats, options.device)
    if options.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e6
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Measured(*times, peak, flops.get_total_flops(), moved.moved)


def ceilings(options: argparse.Namespace) -> tuple[float, float]:
    """Floating-point operations a second of a large matrix product, and bytes a second of a large copy."""
    kind = torch.bfloat16 if options.precision == "bf16" else torch.float32
    size = 8192 if options.device == "cuda" else 2048
    left = torch.randn(size, size, device=options.device, dtype=kind)
    left @ left
    products = 2 * size**3 / seconds(lambda: left @ left, 5, options.device)[0]
    source = torch.randn(2**26, device=options.device)
    target = torch.empty_like(source)
    return products, 2 * source.nbytes / seconds(lambda: target.copy_(source), 5, options.device)[0]


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a process of its own, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="in a batch")
    parser.add_argument("--captions", type=int, default=5, help="of an image")
    parser.add_argument("--words", type=int, default=16, help="of a caption, <eos> included")
    parser.add_argument("--grids", nargs="+", default=GRIDS, help="regions and their size")
    parser.add_argument("--repeats", type=int, default=3, help="the quickest of so many is given")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    products, copies = alone(ceilings, options)
    rows = []
    for grid in options.grids:
        found = {plain: alone(measure, grid, plain, options) for plain in (True, False)}
        for plain, one in found.items():
            rows.append(
                [
                    grid,
                    "step by step" if plain else "model",
                    f"{one.seconds:.3f}",
                    f"{options.images * options.captions / one.seconds:.0f}",
                    f"{found[True].seconds / one.seconds:.1f}",
                    f"{one.processor:.2f}",
                    f"{found[True].processor / one.processor:.1f}",
                    f"{one.peak:.0f}",
                    f"{one.flops / products / one.seconds:.0%}",
                    f"{one.moved / copies / one.seconds:.0%}",
                ]
            )
    print(
        f"{options.images} images with {options.captions} captions of {options.words} words each, {options.device}, "
        f"{options.precision}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; "
        f"ceilings {products / 1e9:.0f} Gflop/s, {copies / 1e9:.1f} GB/s"
    )
    print_table(["grid", "way", "s a step", "captions/s", "times", "CPU s", "times", "peak MB", "matrix", "copy"], rows)


if __name__ == "__main__":
    main()
