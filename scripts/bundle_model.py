"""Add a trained run to the models that travel with the package, in data/models/NAME.

python scripts/bundle_model.py RUN NAME "a line that says what the model does" [KEY=VALUE ...]

KEY=VALUE replaces a field of the run's config that names a folder of this machine, such as data.root=data/multi30k.
"""

import argparse
from pathlib import Path

import yaml

from attendgen.cli.script import script
from attendgen.runs.bundle import bundle
from attendgen.runs.layout import WEIGHTS
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.files import write_text
from attendgen.utils.resources import SOURCE


@script
def main(arguments: list[str] | None = None) -> None:
    """Write the bundled model, and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a run directory or a .ckpt file")
    parser.add_argument("name", metavar="NAME", help="the name by which commands will find the model")
    parser.add_argument("description", metavar="DESCRIPTION", help="the text of the model's README.md")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="fields of the config to replace")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16, help="bits per weight (default 16)")
    parser.add_argument("--four-bits", metavar="REGEX", help="store matrices whose names match with 4 bits per weight")
    parser.add_argument("--models", type=Path, default=SOURCE / "data" / "models", help="parent of the model's folder")
    options = parser.parse_intermixed_args(arguments)
    folder = options.models / options.name
    defaults = {}
    for override in options.overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"{override}: expected KEY=VALUE")
        defaults[key] = yaml.safe_load(value)
    bundle(Run.find(options.run), options.name, folder, defaults, options.bits, options.four_bits)
    write_text(folder / "README.md", f"{options.description}\n")
    print(f"{folder}: {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
