"""What all families share when a trained model is used."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from attendgen.config.instantiate import instantiate
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import DecodingFunction
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError


class TrainedModel:
    """A trained model ready to use.

    Args:
        run: where the model comes from.
        model: in evaluation mode.

    Attributes:
        vocabulary: of the model.
    """

    def __init__(self, run: Run, model: Any) -> None:
        self.run = run
        self.model = model
        self.vocabulary: Any = run.vocabulary

    @property
    def device(self) -> torch.device:
        """The device of the model's weights."""
        return next(self.model.parameters()).device

    def to_bfloat16(self) -> None:
        """Convert the weights to bfloat16: generation is faster, log-probabilities are rounded."""
        self.model.bfloat16()

    def make_decoding(self, options: dict[str, Any]) -> DecodingConfig | DecodingFunction:
        """Return the decoding of the run's validation, with the options that are not None in place of its settings.

        Raises:
            UserError: an option is out of range, two exclude each other, or the run's decoding has no such setting.
        """
        given = {name: value for name, value in options.items() if value is not None}
        config = self.run.config
        own = OmegaConf.select(config, "task.decoding")
        settings: Any = OmegaConf.select(config, "decoding") if own is None else own
        if settings is None:
            raise UserError("decoding: missing in the run's config")
        decoding = instantiate(settings, "decoding")
        if isinstance(decoding, DecodingConfig):
            return decoding.override(**given)
        return self._change_function(settings, decoding, given)

    def _change_function(self, settings: DictConfig, decoding: Any, given: dict[str, Any]) -> DecodingFunction:
        """Return decoding of the user's own with other settings."""
        for name in given:
            if not takes_argument(type(decoding), name):
                raise UserError(f"decoding: {settings['_target_']} has no setting {name!r}")
        plain: Any = OmegaConf.to_container(settings, resolve=True)
        return instantiate(OmegaConf.create({**plain, **given}), "decoding")


def takes_argument(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function or class takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
