"""Commands that refuse an option in the place of another option's value."""

import itertools
from typing import Any

import typer.core

from attendgen.utils.errors import UserError


class Command(typer.core.TyperCommand):
    """A command whose options do not take the next option for their value: `--out --split test` is a mistake."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # click's context
        """Parse arguments.

        Raises:
            UserError: the value of an option is the name of another.
        """
        names = {name for parameter in self.params for name in parameter.opts if name.startswith("--")}
        taking = (parameter for parameter in self.params if not getattr(parameter, "is_flag", True))
        takers = {name for parameter in taking for name in parameter.opts}
        options = args[: args.index("--")] if "--" in args else args
        for option, value in itertools.pairwise(options):
            if option in takers and value in names:
                raise UserError(f"{option}: needs a value, before {value}")
        return super().parse_args(ctx, args)
