"""Options that take all values up to the next option: `--metrics bleu chrf`."""

from collections.abc import Iterator
from typing import Any

from attendgen.cli.command import Command


class VariadicCommand(Command):
    """A command whose options in `variadic` take several values, without a repetition of the option."""

    variadic = ("--metrics", "--text")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # click's context
        """Parse arguments in which each value of such an option has the option before it."""
        return super().parse_args(ctx, list(repeat_options(args, self.variadic)))


def repeat_options(arguments: list[str], options: tuple[str, ...]) -> Iterator[str]:
    """Yield arguments with an option repeated before each of its values; `key=value` is never one of them."""
    current = ""
    values = 0
    for argument in arguments:
        if argument.startswith("-"):
            current, values = (argument if argument in options else ""), 0
            yield argument
        elif current and "=" not in argument:
            if values:
                yield current
            yield argument
            values += 1
        else:
            yield argument
