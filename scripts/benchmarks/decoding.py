"""Outputs a second, decoded as one batch and one by one, for each family.

python scripts/benchmark_decoding.py --batch 64

The models have the experiments' sizes and random weights, on which the time does not depend. Every output gets the same
length (`--lengths`), so that all ways take the same steps: hypothesis by hypothesis, as a textbook tells it; input by
input, the hypotheses of one input at once; and all inputs and hypotheses at once. They must find the same outputs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attendgen.decoding.config import DecodingConfig
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.utils.special_tokens import PAD, SOS
from attendgen.utils.tables import print_table


class Family(NamedTuple):
    """A model, a way to make inputs for it, and how long its outputs are."""

    model: Any
    inputs: Callable[[int], Tensor]
    length: int


def families(lengths: list[int]) -> dict[str, Family]:
    """Models as large as those of multi30k_fr_en_words, novels and flickr8k_soft."""
    seq2seq = Seq2Seq(
        6500,
        5900,
        partial(AdditiveAttention, dim=256),
        embedding_dim=256,
        hidden=512,
        encoder_hidden=384,
        bidirectional=True,
        tied=True,
    )
    lm = ContextLanguageModel(120, partial(GeneralAttention, scaled=True))
    encoder = SmallCNN((8,), size=8)
    encoder.dim = 1280  # annotation vectors are given: the encoder is never asked
    captioner = Captioner(2550, encoder, partial(AdditiveAttention, dim=256), feature_dim=512)
    return {
        "seq2seq": Family(seq2seq, lambda n: torch.randint(4, 6000, (n, 14)), lengths[0]),
        "language model": Family(lm, lambda n: torch.randint(4, 100, (n, 64)), lengths[1]),
        "captioner": Family(captioner, lambda n: torch.randn(n, 49, 1280), lengths[2]),
    }


def textbook(model: Any, memory: Any, state: Any, length: int, width: int) -> list[int]:
    """The best output of one input, by a loop over hypotheses."""
    beam: list[tuple[float, list[int], Any]] = [(0.0, [SOS], state)]
    for _ in range(length):
        grown = []
        for score, tokens, before in beam:
            log_probs, _, after = model.step(torch.tensor(tokens[-1:]), before, memory)
            log_probs[:, [PAD, SOS]] = -torch.inf
            values, symbols = log_probs[0].topk(width)
            grown += [
                (score + value, [*tokens, symbol], after)
                for value, symbol in zip(values.tolist(), symbols.tolist(), strict=True)
            ]
        beam = sorted(grown, key=lambda hypothesis: -hypothesis[0])[:width]
    return beam[0][1][1:]


@torch.inference_mode()
def decode(model: Any, inputs: Tensor, length: int, beam: int, batch: int | None) -> tuple[float, list[list[int]]]:
    """Seconds to decode all inputs, `batch` at a time or hypothesis by hypothesis (None), and the outputs."""
    search = DecodingConfig(max_length=length, beam_size=beam)
    outputs = []
    started = time.perf_counter()
    for part in inputs.split(batch or 1):
        memory, state = model.encode(part)
        if batch is None:
            outputs.append(textbook(model, memory, state, length, beam))
        else:
            outputs += search(model, memory, state, eos_id=None).tokens[:, 0].tolist()
    return time.perf_counter() - started, outputs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="inputs decoded at once")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is given")
    parser.add_argument(
        "--lengths", type=int, nargs=3, default=[14, 100, 11], help="symbols of an output, family by family"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for name, (model, make, length) in families(options.lengths).items():
        model.eval()
        inputs = make(options.batch)
        for beam in (1, options.beam):
            if beam > 1 and name == "language model":
                continue  # it samples or decodes greedily
            ways = (None, 1, options.batch)
            for way in ways:
                decode(model, inputs[:2], length, beam, way)  # warm up
            runs = [[decode(model, inputs, length, beam, way) for way in ways] for _ in range(options.repeats)]
            found = [output for _, output in runs[0]]
            same = sum(one == two == three for one, two, three in zip(*found, strict=True)) / options.batch
            textbook_s, single_s, batch_s = (statistics.median(run[way][0] for run in runs) for way in range(len(ways)))
            speeds = [f"{options.batch / seconds:.1f}" for seconds in (textbook_s, single_s, batch_s)]
            ratios = [f"{textbook_s / batch_s:.1f}", f"{single_s / batch_s:.1f}"]
            rows.append([name, "greedy" if beam == 1 else f"beam {beam}", str(length), *speeds, *ratios, f"{same:.0%}"])
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, batch {options.batch}")
    print("outputs a second: hypothesis by hypothesis, input by input, all at once; how many times the first two; same")
    print_table(["family", "search", "symbols", "hyp. /s", "input /s", "batch /s", "x hyp.", "x input", "same"], rows)


if __name__ == "__main__":
    main()
