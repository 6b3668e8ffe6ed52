"""Bits per character that general-purpose compressors need for a corpus's test split, given its training split.

python scripts/compression_baseline.py --root DIR

The cost of the test split is the compressed size of training and test split together, minus that of the training split
alone. xz comes with Python; PPMd needs `pip install pyppmd`.
"""

import argparse
import importlib
import lzma
from collections.abc import Callable

from attendgen.cli.script import script
from attendgen.data.text_corpus import TextDataModule
from attendgen.utils.tables import print_table

Compressor = Callable[[bytes], bytes]


def find_compressors(order: int) -> dict[str, Compressor]:
    """Return xz, and PPMd (variant H) if it is installed."""
    found: dict[str, Compressor] = {"xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)}
    try:
        ppmd = importlib.import_module("pyppmd")
    except ImportError:
        return found
    return {f"PPMd, order {order}": lambda data: ppmd.compress(data, max_order=order, mem_size=1 << 28), **found}


@script
def main(arguments: list[str] | None = None) -> None:
    """Measure all compressors, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="a text file or a folder of .txt files, split 90/5/5")
    parser.add_argument("--order", type=int, default=8, help="longest context of PPMd, in bytes (default 8)")
    options = parser.parse_args(arguments)
    parts = TextDataModule(options.root).read_parts()
    test = "".join(parts["test"])
    rows = []
    for given in (("train",), ("train", "val")):
        known = "".join(text for split in given for text in parts[split])
        for name, compress in find_compressors(options.order).items():
            size = len(compress((known + test).encode())) - len(compress(known.encode()))
            bits = 8 * size / len(test)
            rows.append([name, " + ".join(given), f"{bits:.3f}", f"{2**bits:.2f}"])
    print(f"{len(test)} characters, {len(test.encode())} bytes")
    print_table(["compressor", "given", "bits per character", "perplexity"], rows)


if __name__ == "__main__":
    main()
