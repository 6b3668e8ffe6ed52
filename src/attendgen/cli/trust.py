"""attendgen trust."""

from typing import Annotated

import typer


def trust(
    packages: Annotated[
        list[str] | None, typer.Argument(metavar="[PACKAGE ...]", help="Packages to trust; without any, list them.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Do not trust these packages any more.")] = False,
) -> None:
    """List, add or remove the packages of your own whose classes a run may name."""
    from attendgen.config.trust import LIBRARIES, require_own_name
    from attendgen.config.trusted import forget, read_trusted, remember
    from attendgen.utils.errors import UserError
    from attendgen.utils.tables import print_table

    names = packages or []
    if remove and not names:
        raise UserError("trust --remove: name the package, as --remove mypaper")
    for name in names:
        if remove:
            forget(name)
        else:
            require_own_name(name, "trust")
            if name in LIBRARIES:
                raise UserError(f"trust {name}: a library, whose functions run anything; trust a package of your own")
            if "." in name:
                raise UserError(f"trust {name}: name the whole package, {name.partition('.')[0]}")
    if names and not remove:
        remember(names)
    rows = [[name, " ".join(places)] for name, found in sorted(read_trusted().items()) for places in found]
    if rows:
        print_table(["package", "folder"], rows)
    else:
        print("no package is trusted")
