"""Ensembles: trained models that generate with a weighted product of their probabilities.

attendgen ensemble RUN RUN ... --out RUN
"""

import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from omegaconf import OmegaConf
from torch import Tensor, nn

from attendgen.config.instantiate import instantiate
from attendgen.data.batch import is_token
from attendgen.data.captions.features import get_signature
from attendgen.data.module import require_split
from attendgen.decoding.protocol import StatefulModel
from attendgen.layers.encoder import ImageEncoder
from attendgen.models.encoders.base import ImageModel
from attendgen.models.ensemble import CaptionerEnsemble, Ensemble, StatefulEnsemble
from attendgen.postprocess.find import find_compatible_runs
from attendgen.postprocess.fit import Batches, get_device, open_task
from attendgen.runs.run import Run, detach_encoder, skip_pretrained_weights
from attendgen.runs.save import save_model_as_run
from attendgen.tasks.base import BaseTask
from attendgen.utils.devices import find_device
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.precision import autocast, require_precision, set_matmul_precision
from attendgen.utils.progress import track

log = logging.getLogger(__name__)

ITERATIONS = 20  # at most, of Newton's method
LENGTHS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # of the steps that are tried, relative to Newton's
TOLERANCE = 1e-6  # nats per token: a step that promises less is the last
PREDICTIONS = 64  # expanded at a time: what stays in the processor's cache is twice as fast


def make_ensemble(
    names: Sequence[str],
    folder: Path,
    weights: Sequence[float] | None = None,
    fit: str | None = None,
    device: str | torch.device = "auto",
    precision: str = "32",
) -> list[float]:
    """Write a run directory of an ensemble of trained models; data and decoding are those of the first.

    Args:
        names: run directories, `.ckpt` files, or bundled models.
        weights: one per model, exponents of their probabilities; the geometric mean unless given.
        fit: the split on which weights are fitted instead.
        device, precision: of fitting, see `attendgen.utils.devices` and `precision`.

    Returns:
        The weights.

    Raises:
        UserError: there are fewer than two models; they differ in family, vocabulary, encoder, or in how they read
            texts; one is an ensemble itself; the folder holds a run; or there is no such split, device or precision.
    """
    place, precision = find_device(device), require_precision(precision)
    if fit is not None:
        require_split("--fit", fit)
    runs = find_compatible_runs("ensemble", names, folder)
    first = runs[0]
    models = [run.load_model() for run in runs]
    kinds = {get_ensemble_class(model) for model in models}
    if len(kinds) > 1:
        raise UserError(
            f"ensemble: some of {format_some(names)} read windows, others streams; see data.stateful, "
            "and combine runs of one kind"
        )
    settings = make_settings(names, runs, models, kinds.pop(), weights)
    config = first.config.copy()
    OmegaConf.set_struct(config, False)
    config.model = settings
    model = build_ensemble(settings, first, models)
    if fit is not None:
        set_matmul_precision(place)
        config.model.weights = fit_weights(*open_task(first, config, model.to(place), fit), precision)
    save_model_as_run(folder, config, first.family, first.vocabulary, model.cpu())
    return model.weights


def get_ensemble_class(model: nn.Module) -> type[Ensemble]:
    """Return the class of an ensemble of models like this one."""
    if isinstance(model, ImageModel):
        return CaptionerEnsemble
    return StatefulEnsemble if isinstance(model, StatefulModel) else Ensemble


def make_settings(
    names: Sequence[str],
    runs: Sequence[Run],
    models: Sequence[Any],
    kind: type[Ensemble],
    weights: Sequence[float] | None,
) -> dict[str, Any]:
    """Return the config of an ensemble.

    Raises:
        UserError: captioners have different encoders.
    """
    members: list[Any] = [
        {**OmegaConf.to_container(run.config.model, resolve=True), "_partial_": True}  # type: ignore[dict-item]
        for run in runs
    ]
    settings: dict[str, Any] = {
        "_target_": f"attendgen.models.{kind.__name__}",
        "members": members,
        "weights": list(weights) if weights else None,
    }
    if kind is CaptionerEnsemble:
        _require_same_encoder(names, [model.encoder for model in models])
        encoders = [member.pop("encoder") for member in members]
        settings["encoder"] = encoders[0]
    return settings


def build_ensemble(settings: dict[str, Any], first: Run, models: Sequence[nn.Module]) -> Ensemble:
    """Build an ensemble with the weights of trained models."""
    config = OmegaConf.create(settings)
    has_encoder = "encoder" in config
    if has_encoder:
        skip_pretrained_weights(config.encoder)
    model: Any = instantiate(config, "model", **first.vocabulary.sizes())
    trained_models: list[Any] = list(models)
    if has_encoder:
        model.encoder.load_state_dict(trained_models[0].encoder.state_dict())
    for member, trained in zip(model.members, trained_models, strict=True):
        with detach_encoder(trained) if has_encoder else contextlib.nullcontext():
            member.load_state_dict(trained.state_dict())
    return model.eval()


def fit_weights(task: BaseTask[Any], batches: Batches, precision: str = "32") -> list[float]:
    """Find the weights with which a task's ensemble has the least cross-entropy, set them, and return them.

    The cross-entropy is a convex function of the weights (Heskes 1998). Each iteration of Newton's method reads the
    texts once and tries several step lengths. A warning is logged if the iterations end before the optimum.

    Raises:
        UserError: no member predicts the split better than chance, or a log-probability is not finite.
    """
    model: Ensemble = task.eval().model
    first = torch.tensor(model.weights, dtype=torch.double, device=get_device(task))
    (best,) = expand(task, batches, [first], precision)
    if not math.isfinite(best.nll):
        raise UserError("--fit: a member's log-probabilities are not finite; leave that member out")
    gain = math.inf
    longest = 1.0  # the longest step that is tried; less after iterations in which even the shortest overshot
    for _ in track(range(ITERATIONS), "weights", "iterations"):
        step = best.newton_step()
        gain = best.predicted_gain(step)
        tried = expand(task, batches, [best.weights + longest * length * step for length in LENGTHS], precision)
        nearest = min([best, *tried], key=lambda expansion: expansion.nll)
        longest = longest * LENGTHS[-1] if nearest is best else 1.0
        best = nearest
        if gain <= TOLERANCE * best.tokens:
            break
    else:
        log.warning(
            "--fit: the weights did not converge in %d iterations: about %.2g nats per token can still be gained",
            ITERATIONS,
            gain / best.tokens,
        )
    if best.weights.max() <= 0:
        raise UserError("--fit: no member predicts the split better than chance; give --weights, or other members")
    model.weights = best.weights.tolist()
    return model.weights


class Expansion:
    """The cross-entropy of texts around some weights, to second order, summed over the tokens added so far.

    With r_sm = log p_m(s) - log p_m(target), a token's cross-entropy is log sum_s exp(w . r_s); its gradient is the
    mean of r_s, and its curvature the covariance, under the ensemble's probabilities.

    Args:
        weights: where to expand.
    """

    def __init__(self, weights: Float[Tensor, " members"]) -> None:
        self.weights = weights
        self.nll, self.tokens = 0.0, 0
        self.gradient = torch.zeros_like(weights)
        self.curvature = torch.zeros_like(weights).diag()

    def add(self, ratios: Float[Tensor, "members predictions vocab"]) -> None:
        """Add the log-ratios r of some targets."""
        logits = torch.einsum("m,mps->ps", self.weights.to(ratios), ratios)
        probs = logits.softmax(dim=-1)
        mean = torch.einsum("ps,mps->mp", probs, ratios)
        spread = ((ratios - mean.unsqueeze(-1)) * probs.sqrt()).flatten(1)
        self.nll += float(logits.logsumexp(dim=-1).double().sum())
        self.tokens += ratios.size(1)
        self.gradient += mean.double().sum(dim=1)
        self.curvature += (spread @ spread.T).double()

    def newton_step(self) -> Float[Tensor, " members"]:
        """Return the step to the expansion's minimum: the shortest one, so that equal members share their weight."""
        # below this condition number the single precision of the log-ratios is noise
        return -torch.linalg.pinv(self.curvature, rtol=1e-6, hermitian=True) @ self.gradient

    def predicted_gain(self, step: Float[Tensor, " members"]) -> float:
        """Return by how many nats a Newton step lowers the expansion: half the squared Newton decrement."""
        return -float(self.gradient @ step) / 2


def expand(
    task: BaseTask[Any], batches: Batches, candidates: Sequence[Tensor], precision: str = "32"
) -> list[Expansion]:
    """Expand the cross-entropy of all batches around each of several weights; the members read each batch once."""
    expansions = [Expansion(weights) for weights in candidates]
    with torch.no_grad():
        for batch in track(batches(), "predictions", "batches"):
            with task.model.recording() as recorded, autocast(get_device(task), precision):
                task.nll(batch)
            (log_probs,) = recorded
            for ratios in compute_log_ratios(log_probs, batch.outputs).split(PREDICTIONS, dim=1):
                for expansion in expansions:
                    expansion.add(ratios)
    return expansions


def compute_log_ratios(
    log_probs: Float[Tensor, "*rows vocab members"], targets: Int[Tensor, "*rows"]
) -> Float[Tensor, "members predictions vocab"]:
    """Return log p_m(token) - log p_m(target) for each target that is not <pad>."""
    mask = is_token(targets)
    log_probs = log_probs[mask].movedim(-1, 0).contiguous()  # members predictions vocab
    return log_probs - log_probs.gather(-1, targets[mask].expand(len(log_probs), -1).unsqueeze(-1))


def _require_same_encoder(names: Sequence[str], encoders: Sequence[ImageEncoder]) -> None:
    """Check that captioners have the same encoder.

    Raises:
        UserError: two have different ones.
    """
    signatures = [get_signature(encoder) for encoder in encoders]
    for name, signature in zip(names, signatures, strict=True):
        if signature != signatures[0]:
            raise UserError(
                f"{name}: model.encoder: {signature}, not the {signatures[0]} of {names[0]}; "
                "combine runs of one encoder"
            )
