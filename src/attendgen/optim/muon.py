"""Muon for the weight matrices of the recurrences, AdamW for all other parameters, as one optimizer."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer

from attendgen.utils.errors import UserError


class MuonAdamW(Optimizer):
    """Muon for matrices between hidden vectors (Jordan et al. 2024), AdamW for the rest (Loshchilov and Hutter 2019).

    Muon steps along the orthogonal matrix nearest to the momentum, so that all directions are learned at one rate.
    Embeddings, biases and the output layer are left to AdamW. The orthogonal matrix is computed in bfloat16, which is
    slow on processors without it.

    Args:
        params: groups of named parameters.
        lr: of AdamW; a schedule scales both rates.
        muon_lr: of Muon, before its factor for the matrix's shape, sqrt(max(1, rows / columns)).
        matrices: regular expression that finds the names of Muon's parameters, all matrices.
        weight_decay: of both.
        momentum: of Muon.

    Raises:
        UserError: no parameter has such a name, or one that has is not a matrix.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float = 1e-3,
        muon_lr: float = 0.02,
        matrices: str = r"(^|\.)weight_(ih|hh)_l\d+$",
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        chosen: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in params:
            named = list(group["params"])
            ours = [(name, value) for name, value in named if re.search(matrices, name)]
            odd = [name for name, value in ours if value.ndim != 2]
            if odd:
                raise UserError(
                    f"task.optimizer.matrices={matrices}: {odd[0]} is not a matrix; "
                    "give a pattern of the names of matrices"
                )
            if ours:
                chosen.append({"params": ours})
            rest = [(name, value) for name, value in named if not re.search(matrices, name)]
            others.append({**group, "params": rest})
        if not chosen:
            raise UserError(
                f"task.optimizer.matrices={matrices}: finds no parameter of this model; "
                "give a regular expression of their names"
            )
        self.muon = Muon(chosen, lr=muon_lr, weight_decay=weight_decay, momentum=momentum)
        on_cpu = all(value.device.type == "cpu" for group in others for _, value in group["params"])
        # one pass over large tables instead of ten; on a GPU the loss scaler could not clip gradients any more
        self.adamw = AdamW(others, lr=lr, weight_decay=weight_decay, fused=on_cpu or None)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step of both optimizers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, has in ((self.muon, True), (self.adamw, False)):
            # restoring a checkpoint replaces the groups and the state, which both optimizers share at first
            part.param_groups = [group for group in self.param_groups if ("ns_steps" in group) == has]
            part.state = self.state
            part.step()
        return loss
