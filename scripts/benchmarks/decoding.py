"""Outputs per second of each family, decoded in one batch, input by input, and hypothesis by hypothesis.

OMP_NUM_THREADS=1 python scripts/benchmarks/decoding.py

The models have the experiments' sizes and random weights, on which the time does not depend. All outputs of a family
have the same length (`--lengths`), so all ways take the same steps. The last column is the share of outputs that are
equal in all three ways; rounding may change a few.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attendgen.cli.script import script
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.runs.run import convert_precision
from attendgen.utils.special_tokens import PAD, SOS
from attendgen.utils.tables import print_table

LENGTHS = (14, 100, 11)  # of each family's outputs


class Family(NamedTuple):
    """A model, a function that makes a number of inputs, and the length of the outputs."""

    model: Any
    make_inputs: Callable[[int], Tensor]
    length: int


def build_families(lengths: list[int]) -> dict[str, Family]:
    """Build models of about the sizes of multi30k_fr_en_words, novels and flickr8k_soft."""
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
    language_model = ContextLanguageModel(120, partial(GeneralAttention, scaled=True))
    encoder = SmallCNN((8,), size=8)
    encoder.dim = 1280  # the inputs are features: the encoder is never called
    captioner = Captioner(2550, encoder, partial(AdditiveAttention, dim=256), feature_dim=512)
    return {
        "seq2seq": Family(seq2seq, lambda n: torch.randint(4, 6000, (n, 14)), lengths[0]),
        "language model": Family(language_model, lambda n: torch.randint(4, 100, (n, 64)), lengths[1]),
        "captioner": Family(captioner, lambda n: torch.randn(n, 49, 1280), lengths[2]),
    }


def search_by_hypothesis(model: Any, memory: Any, state: Any, length: int, width: int) -> list[int]:
    """Return the best output of one input, found by a beam search that calls the model once per hypothesis."""
    beam: list[tuple[float, list[int], Any]] = [(0.0, [SOS], state)]
    for _ in range(length):
        grown = []
        for score, tokens, before in beam:
            log_probs, _, after = model.step(torch.tensor(tokens[-1:]), before, memory)
            log_probs[:, [PAD, SOS]] = -torch.inf
            values, ids = log_probs[0].topk(width)
            grown += [
                (score + value, [*tokens, token], after)
                for value, token in zip(values.tolist(), ids.tolist(), strict=True)
            ]
        beam = sorted(grown, key=lambda hypothesis: -hypothesis[0])[:width]
    return beam[0][1][1:]


@torch.inference_mode()
def time_decoding(
    model: Any, inputs: Tensor, length: int, beam_size: int, batch_size: int | None
) -> tuple[float, list[list[int]]]:
    """Return the seconds that decoding all inputs takes, and the outputs.

    Args:
        batch_size: inputs per batch; None decodes hypothesis by hypothesis.
    """
    config = DecodingConfig(max_length=length, beam_size=beam_size)
    outputs = []
    started = time.perf_counter()
    for part in inputs.split(batch_size or 1):
        memory, state = model.encode(part)
        if batch_size is None:
            outputs.append(search_by_hypothesis(model, memory, state, length, beam_size))
        else:
            outputs += decode(model, memory, state, config, eos_id=None).tokens[:, 0].tolist()
    return time.perf_counter() - started, outputs


@script
def main() -> None:
    """Measure all families, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="inputs per batch (default 64)")
    parser.add_argument("--beam", type=int, default=5, help="beam size, measured beside greedy decoding (default 5)")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of the weights (default 32)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, of which the median counts (default 3)")
    parser.add_argument(
        "--lengths",
        type=int,
        nargs=3,
        default=LENGTHS,
        metavar=("SEQ2SEQ", "LANGUAGE_MODEL", "CAPTIONER"),
        help=f"tokens per output of each family (default {' '.join(map(str, LENGTHS))})",
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for name, (model, make_inputs, length) in build_families(options.lengths).items():
        inputs = make_inputs(options.batch)
        convert_precision(model.eval(), options.precision)
        for beam_size in (1, options.beam):
            if beam_size > 1 and name == "language model":
                continue  # language models sample or decode greedily
            ways = (None, 1, options.batch)
            for way in ways:
                time_decoding(model, inputs[:2], length, beam_size, way)  # warms up
            runs = [
                [time_decoding(model, inputs, length, beam_size, way) for way in ways] for _ in range(options.repeats)
            ]
            outputs = [found for _, found in runs[0]]
            equal = sum(one == two == three for one, two, three in zip(*outputs, strict=True)) / options.batch
            by_hypothesis, by_input, as_batch = (statistics.median(run[i][0] for run in runs) for i in range(len(ways)))
            speeds = [f"{options.batch / seconds:.1f}" for seconds in (by_hypothesis, by_input, as_batch)]
            ratios = [f"{by_hypothesis / as_batch:.1f}", f"{by_input / as_batch:.1f}"]
            search = "greedy" if beam_size == 1 else f"beam {beam_size}"
            rows.append([name, search, str(length), *speeds, *ratios, f"{equal:.0%}"])
    print(
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, batch {options.batch}, "
        f"precision {options.precision}; outputs per second"
    )
    header = ["family", "search", "tokens", "by hypothesis", "by input", "batch", "x hypothesis", "x input", "equal"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
