"""What commands say beside their outputs, on standard error."""

import sys
from collections.abc import Iterable
from typing import Any

from attendgen.text.tokenizers import JOINER

SHOWN = 5  # unknown tokens that a note names


class UnknownTokens:
    """Counts the tokens of inputs that a model does not know."""

    def __init__(self) -> None:
        self.count = self.total = 0
        self.first: list[str] = []

    def add(self, model: Any, texts: Iterable[str]) -> None:
        """Count those of some texts."""
        for text in texts:
            tokens, total = model.find_unknown(text)
            self.count, self.total = self.count + len(tokens), self.total + total
            for token in tokens if len(self.first) <= SHOWN else ():
                if token.replace(JOINER, "") not in self.first:
                    self.first.append(token.replace(JOINER, ""))

    def report(self, unit: str) -> None:
        """Print a note if there are some.

        Args:
            unit: what the tokens are called.
        """
        if self.count:
            names = ", ".join(self.first[:SHOWN]) + (", ..." if len(self.first) > SHOWN else "")
            print(f"note: {self.count:,} of {self.total:,} {unit} are unknown to this model: {names}", file=sys.stderr)


def report_search(model: Any, options: dict[str, Any]) -> None:
    """Print by which search outputs are decoded."""
    from attendgen.decoding.config import describe_search

    decoding = model.make_decoding({name: value for name, value in options.items() if name != "on_token"})
    print(f"search: {describe_search(decoding)}", file=sys.stderr)
