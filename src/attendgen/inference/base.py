"""What all families share when a trained model is used."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attendgen.config.instantiate import get_first_line, instantiate
from attendgen.data.batch import round_length
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.decoding.protocol import DecodingFunction
from attendgen.layers.graphs import MULTIPLE
from attendgen.layers.state import map_tensors
from attendgen.runs.run import Run
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text
from attendgen.utils.lines import read_line_blocks

Input = TypeVar("Input")
Outputs = TypeVar("Outputs")
BATCH = 64  # inputs that are decoded together
ABSENT = object()  # no value of a setting


class TrainedModel:
    """A trained model ready to use.

    Args:
        run: where the model comes from.
        model: in evaluation mode.

    Attributes:
        vocabulary: of the model.
        graphs: replay the decoding steps of the model on a GPU.
    """

    def __init__(self, run: Run, model: Any) -> None:
        self.run = run
        self.model = model
        self.graphs: DecodingGraphs | None = None
        self.vocabulary: Any = run.vocabulary

    @property
    def device(self) -> torch.device:
        """The device of the model's weights."""
        return next(self.model.parameters()).device

    def pad_inputs(self, inputs: Any) -> Any:
        """Return the ids of inputs, a tree of tensors, padded to one of few lengths if decoding steps are recorded."""
        return inputs if self.graphs is None else map_tensors(lambda part: round_length(part, MULTIPLE), inputs)

    def read_inputs(self, path: Path) -> list[str]:
        """Return the inputs that a file holds: its whole text as one, unless the family has files of another form.

        Raises:
            UserError: it is missing or broken.
        """
        return [read_text(path)]

    def read_line_blocks(self, source: str) -> Iterator[list[str]]:
        """Yield the inputs of a file that holds one per line, or of standard input if it is "-", block by block.

        Raises:
            UserError: it is missing or broken.
        """
        return read_line_blocks(source)

    def make_decoding(self, options: dict[str, Any]) -> DecodingConfig | DecodingFunction:
        """Return the decoding of the run's validation, with the options that are not None in place of its settings.

        Args:
            options: settings, or their configs.

        Raises:
            UserError: an option is out of range, two exclude each other, or the run's decoding has no such setting.
        """
        settings = self._get_settings()
        given = _merge_nested(settings, {name: value for name, value in options.items() if value is not None})
        decoding = instantiate(settings, "decoding")
        if isinstance(decoding, DecodingConfig):
            return decoding.override(**{name: _make_parts(value) for name, value in given.items()})
        return self._change_function(settings, decoding, given)

    def _get_settings(self) -> DictConfig:
        """Return the run's settings of decoding.

        Raises:
            UserError: it has none.
        """
        config = self.run.config
        own = OmegaConf.select(config, "task.decoding")
        settings: Any = OmegaConf.select(config, "decoding") if own is None else own
        if settings is None:
            raise UserError(
                "decoding: missing in the run's config; add it, as {_target_: attendgen.decoding.DecodingConfig}"
            )
        return settings

    def find_unknown(self, text: str) -> tuple[list[str], int]:
        """Return the tokens of an input that the model does not know, and the number of all its tokens."""
        vocabulary = getattr(self.vocabulary, "source", self.vocabulary)
        if not isinstance(vocabulary, Vocabulary):  # one of the user's own spells its tokens itself
            return [], 0
        tokens = vocabulary.split(text)
        return [token for token in tokens if token not in vocabulary.ids], len(tokens)

    def clear_settings(self, options: dict[str, Any]) -> dict[str, Any]:
        """Set those of the run's settings of decoding to null that options give as None; return the other options.

        Raises:
            UserError: the run has no such setting.
        """
        settings = self._get_settings()
        for name, value in options.items():
            if value is None and OmegaConf.select(settings, name, default=ABSENT) is ABSENT:
                raise UserError(f"decoding.{name}: no such setting of the run's decoding; leave it out")
            if value is None:
                OmegaConf.update(settings, name, None)
        return {name: value for name, value in options.items() if value is not None}

    def _change_function(self, settings: DictConfig, decoding: Any, given: dict[str, Any]) -> DecodingFunction:
        """Return decoding of the user's own with other settings."""
        for name in given:
            if not takes_argument(type(decoding), name):
                raise UserError(f"decoding: {settings['_target_']} has no setting {name!r}; leave it out")
        plain: Any = OmegaConf.to_container(settings, resolve=True)
        return instantiate(OmegaConf.create({**plain, **given}, flags={"allow_objects": True}), "decoding")


def generate_batches(
    inputs: Sequence[Input],
    groups: Iterable[Sequence[int]],
    size: int,
    generate: Callable[[list[Input]], list[Outputs]],
) -> list[Outputs]:
    """Return the outputs of all inputs, in their order, from batches.

    Args:
        groups: the numbers of the inputs, each once; a batch is made of neighbors in a group.
        size: inputs of a batch, at most.
        generate: returns the outputs of a batch.
    """
    found: dict[int, Outputs] = {}
    for group in groups:
        for start in range(0, len(group), size):
            batch = group[start : start + size]
            found |= dict(zip(batch, generate([inputs[number] for number in batch]), strict=True))
    return [found[number] for number in range(len(inputs))]


def _merge_nested(settings: DictConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Return options of which those with a dotted name, as `scorer.weight`, are put into the settings' own part.

    Raises:
        UserError: there is no such part.
    """
    whole: Any = OmegaConf.create(OmegaConf.to_container(settings, resolve=True))
    merged = {name: value for name, value in options.items() if "." not in name}
    for name in options.keys() - merged.keys():
        group = name.rpartition(".")[0]
        if not OmegaConf.is_config(OmegaConf.select(whole, group)):
            raise UserError(f"decoding.{name}: the run's decoding has no part {group!r}; leave it out")
        try:
            OmegaConf.update(whole, name, options[name], force_add=True)
        except (OmegaConfBaseException, ValueError, IndexError) as error:
            raise UserError(f"decoding.{name}: {get_first_line(error)}") from error
        first = name.partition(".")[0]
        merged[first] = OmegaConf.to_container(whole[first])
    return merged


def _make_parts(value: Any) -> Any:
    """Return a setting with the objects that its config describes."""
    if isinstance(value, list):
        return [_make_parts(part) for part in value]
    return instantiate(OmegaConf.create(value), "decoding") if isinstance(value, dict) else value


def takes_argument(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function or class takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
