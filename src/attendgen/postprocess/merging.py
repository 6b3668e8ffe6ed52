"""Merging: the mean of the weights of several models of one architecture.

attendgen merge RUN RUN ... --out RUN
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from attendgen.postprocess.find import find_compatible_runs
from attendgen.runs.save import save_model_as_run
from attendgen.utils.errors import UserError


def merge(names: Sequence[str], folder: Path, weights: Sequence[float] | None = None) -> list[float]:
    """Write a run directory of the mean of several models; settings and data are those of the first.

    All runs must share an ancestor: several fine-tunings of one model (Wortsman et al. 2022, Model soups), or a model
    and its fine-tuned version (Wortsman et al. 2022, Robust fine-tuning of zero-shot models). Averaging independently
    trained models gives a useless model.

    Args:
        names: run directories, `.ckpt` files, or bundled models.
        folder: of the new run.
        weights: one per model, divided by their sum; equal unless given. A negative weight moves away from its model.

    Returns:
        The weights.

    Raises:
        UserError: there are fewer than two models; they differ in family, vocabulary or shape; one is an ensemble;
            there is not one weight per model, or the weights do not sum to more than 0; or the folder holds a run.
    """
    runs = find_compatible_runs("merge", names, folder)
    given = [1.0] * len(runs) if weights is None else list(weights)
    if len(given) != len(runs):
        raise UserError(f"--weights: {len(given)} for {len(runs)} runs; expected one for each")
    if not all(map(math.isfinite, given)) or sum(given) <= 0:
        raise UserError(f"--weights {','.join(map(str, given))}: expected numbers that sum to more than 0")
    shares = [weight / sum(given) for weight in given]
    models = [run.load_model() for run in runs]
    states = [model.state_dict() for model in models]
    _require_same_shapes(names, states)
    models[0].load_state_dict(average_states(states, shares))
    save_model_as_run(folder, runs[0].config.copy(), runs[0].family, runs[0].vocabulary, models[0])
    return shares


def average_states(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of models' parameters and buffers.

    Tensors that are identical in all models, and integer tensors, are copied from the first.
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


def _require_same_shapes(names: Sequence[str], states: Sequence[Mapping[str, Tensor]]) -> None:
    """Check that all models have the same parameters.

    Raises:
        UserError: one has other parameters than the first.
    """
    first = {name: list(tensor.shape) for name, tensor in states[0].items()}
    for run, state in zip(names, states, strict=True):
        shapes = {name: list(tensor.shape) for name, tensor in state.items()}
        for name in (*first, *shapes):
            if shapes.get(name) != first.get(name):
                own, other = shapes.get(name, "missing"), first.get(name, "missing")
                raise UserError(f"{run}: model: {name} is {own}, in {names[0]} {other}; merge runs of one model")
