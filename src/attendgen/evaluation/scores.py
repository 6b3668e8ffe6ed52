"""What an evaluation returns: scores by name, and the outputs that were scored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from attendgen.inference.result import Result

SHOWN = 4  # scores in the short form


class Scores(Mapping[str, int | float]):
    """The scores of a run on a split, by name.

    Args:
        values: scores by name.
        settings: how the evaluation was made, see `settings_<split>.json` in the run directory.
        results: the output of each example with its attention, in order; empty if the model decodes nothing.
        inputs: what names each example's input: its source text, or its image's id.
    """

    def __init__(
        self,
        values: Mapping[str, int | float],
        settings: Mapping[str, Any],
        results: Sequence[Result] = (),
        inputs: Sequence[str | int] = (),
    ) -> None:
        self._values = dict(values)
        self.settings = dict(settings)
        self.results = list(results)
        self.inputs = list(inputs)

    def __getitem__(self, name: str) -> int | float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = [f"{name}={value:.4g}" for name, value in list(self.items())[:SHOWN]]
        more = [f"{len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return f"Scores({', '.join([*shown, *more])})"

    @property
    def outputs(self) -> list[str]:
        """The text of each output."""
        return [result.text for result in self.results]

    @property
    def attention(self) -> list[Float[np.ndarray, "tokens source"]]:
        """The attention weights of each output."""
        return [result.attention for result in self.results]

    def to_dict(self) -> dict[str, Any]:
        """Return scores, settings, inputs and outputs as plain data, without the attention."""
        return {
            "scores": dict(self),
            "settings": self.settings,
            "inputs": self.inputs,
            "outputs": self.outputs,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)
