"""Trained models of one shape made one: the mean of their weights.

attendgen merge RUN RUN ... --out RUN
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from attendgen.ensembles import find_alike
from attendgen.errors import UserError
from attendgen.runs import save_made


def merge(names: Sequence[str], folder: Path, weights: Sequence[float] | None = None) -> list[float]:
    """Make a run directory of the mean of some models; settings and data are those of the first.

    It asks for models that come of one: several fine-tunings of it (Wortsman et al. 2022, Model soups), or itself and
    what it was fine-tuned to (Wortsman et al. 2022, Robust fine-tuning of zero-shot models), of which the mean keeps
    what the training data did not teach. Between models trained apart there is nothing but bad ones.

    Args:
        names: run directories, `.ckpt` files, or bundled models.
        folder: of the new run.
        weights: one for each, divided by their sum; the mean unless given. One below 0 goes away from its model.

    Returns:
        The weights.

    Raises:
        UserError: there are fewer than two; they differ in family, vocabulary or shape; one is an ensemble; there is
            not one weight for each, or they do not sum to more than 0; or the folder holds a run.
    """
    runs = find_alike("merge", names, folder)
    given = [1.0] * len(runs) if weights is None else list(weights)
    if len(given) != len(runs):
        raise UserError(f"--weights: {len(given)} for {len(runs)} runs; expected one for each")
    if not all(map(math.isfinite, given)) or sum(given) <= 0:
        raise UserError(f"--weights {','.join(map(str, given))}: expected numbers that sum to more than 0")
    chosen = [weight / sum(given) for weight in given]
    models: list[Any] = [run.build().model for run in runs]
    states = [model.state_dict() for model in models]
    _require_one_shape(names, states)
    models[0].load_state_dict(mean(states, chosen))
    config = runs[0].config.copy()
    OmegaConf.set_struct(config, False)
    save_made(folder, config, runs[0].vocabulary, models[0])
    return chosen


def mean(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of models' parameters and buffers; what they all share, and what is no real number, stays the
    first's, bit for bit.
    """
    merged: dict[str, Tensor] = {}
    for name, own in states[0].items():
        others = [state[name] for state in states[1:]]
        if not own.is_floating_point() or all(torch.equal(own, other) for other in others):
            merged[name] = own
        else:
            tensors = torch.stack([tensor.double() for tensor in (own, *others)], dim=-1)
            merged[name] = (tensors @ tensors.new_tensor(weights)).to(own.dtype)
    return merged


def _require_one_shape(names: Sequence[str], states: Sequence[Mapping[str, Tensor]]) -> None:
    """
    Raises:
        UserError: a model has other parameters than the first one.
    """
    first = {name: list(tensor.shape) for name, tensor in states[0].items()}
    for run, state in zip(names, states, strict=True):
        shapes = {name: list(tensor.shape) for name, tensor in state.items()}
        for name in (*first, *shapes):
            if shapes.get(name) != first.get(name):
                raise UserError(
                    f"{run}: model: {name} is {shapes.get(name, 'missing')}, in {names[0]} {first.get(name, 'missing')}"
                )
