"""Make a trained run a model that travels with the package.

python scripts/bundle_model.py RUN NAME "one line that says what it does" [key=value ...]

The changes of the config replace what is true on this machine alone, as data.root=data/multi30k.
"""

import argparse
from pathlib import Path

import yaml

from attendgen.cli.script import script
from attendgen.runs.bundle import bundle
from attendgen.runs.run import WEIGHTS, Run
from attendgen.utils.files import write_text
from attendgen.utils.resources import SOURCE


@script
def main() -> None:
    """Write data/models/NAME."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("description")
    parser.add_argument("defaults", metavar="key=value", nargs="*")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16, help="of a weight")
    parser.add_argument("--four-bits", metavar="REGEX", help="names of matrices whose weights have 4 bits")
    arguments = parser.parse_intermixed_args()
    folder = SOURCE / "data" / "models" / arguments.name
    pairs = (default.partition("=") for default in arguments.defaults)
    defaults = {key: yaml.safe_load(value) for key, _, value in pairs}
    bundle(Run.find(arguments.run), arguments.name, folder, defaults, arguments.bits, arguments.four_bits)
    write_text(folder / "README.md", f"{arguments.description}\n")
    print(f"{folder}: {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB; {Path(arguments.run)}")


if __name__ == "__main__":
    main()
