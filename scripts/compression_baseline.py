"""Bits a character that general compressors need for a corpus's test split, given its training split.

python scripts/compression_baseline.py --root DIR

The size of the training and the test parts compressed together, less that of the training parts alone. PPMd needs
`pip install pyppmd`; xz comes with Python.
"""

import argparse
import importlib
import lzma
from collections.abc import Callable

from attendgen.data.text_corpus import TextDataModule
from attendgen.utils.tables import print_table

Compressor = Callable[[bytes], bytes]


def compressors(order: int) -> dict[str, Compressor]:
    """xz, and PPMd (variant H) where it is installed."""
    found: dict[str, Compressor] = {"xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)}
    try:
        ppmd = importlib.import_module("pyppmd")
    except ImportError:
        return found
    return {f"PPMd, order {order}": lambda data: ppmd.compress(data, max_order=order, mem_size=1 << 28), **found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="a text file or a folder of .txt files, split 90/5/5")
    parser.add_argument("--order", type=int, default=8)
    options = parser.parse_args()
    parts = TextDataModule(options.root).parts()
    test = "".join(parts["test"])
    rows = []
    for given in (("train",), ("train", "val")):
        known = "".join(text for name in given for text in parts[name])
        for name, compress in compressors(options.order).items():
            size = len(compress((known + test).encode())) - len(compress(known.encode()))
            bits = 8 * size / len(test)
            rows.append([name, " + ".join(given), f"{bits:.3f}", f"{2**bits:.2f}"])
    print(f"{len(test)} characters, {len(test.encode())} bytes")
    print_table(["compressor", "given", "bits a character", "perplexity"], rows)


if __name__ == "__main__":
    main()
