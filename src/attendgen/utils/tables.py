"""Tables on the terminal."""

import sys


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a plain table; the first column is never wrapped, because it is often a path to copy."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    # a pipe has no width: cut nothing
    Console(width=None if sys.stdout.isatty() else 200).print(table)
