"""Output layers: logits and log-probabilities of classes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.half_precision import is_half, widen

LINE = 16  # numbers of single precision in a cache line
FEW = 128  # classes, whose logits take little time


class OutputLayer(nn.Linear):
    """A linear layer that returns logits; without a gradient those of weights in half precision are single precision.

    See `AlignedOutput`, which is made anew when the weights have changed.
    """

    def forward(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows classes"]:
        """Return logits."""
        is_usual = all(self._parameters.get(name) is not None for name in ("weight", "bias"))  # not parametrized
        if not is_usual or not is_half(self.weight) or torch.is_grad_enabled():
            return super().forward(features)
        weights = [self.weight, self.bias]
        made_of = [(part.data_ptr(), part.device, 0 if part.is_inference() else part._version) for part in weights]
        if vars(self).get("made_of") != made_of:
            self.aligned, self.made_of = AlignedOutput(self), made_of
        return self.aligned.multiply(features)[..., : self.out_features]


class AlignedOutput:
    """An output layer that returns log-probabilities of its classes in single precision, whatever its weights have.

    On a CPU a product whose rows do not begin at a cache line takes a third as long again, so the classes are padded.

    A product in half precision is rounded: a logit of 10 is wrong by up to 0.03, more than many hypotheses differ by.
    So with many classes the product is that of each logit less the greatest of the first classes. Where these are the
    frequent ones, as the words of a vocabulary are sorted, what is rounded is near to 0 for the probable classes, and a
    quarter of the error is left.
    """

    def __init__(self, layer: nn.Linear) -> None:
        padding = -layer.out_features % LINE
        self.classes = layer.out_features
        self.weight = functional.pad(layer.weight, (0, 0, 0, padding))
        self.bias = functional.pad(layer.bias, (0, padding), value=-torch.inf)
        self.is_relative = is_half(self.weight) and self.classes > FEW
        if self.is_relative:
            ones = torch.ones_like(self.bias).unsqueeze(1)
            columns = torch.cat([self.weight, self.bias.unsqueeze(1), ones], dim=1)
            self.columns = functional.pad(columns, (0, -columns.size(1) % LINE))
            self.weight, self.bias = self.weight[:FEW], self.bias[:FEW]
        else:
            self.weight, self.bias = widen(self.weight), widen(self.bias)

    def __call__(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows classes"]:
        """Return log-probabilities."""
        # the softmax of logits is that of logits less a number
        logits = self._multiply_relative(features)[0] if self.is_relative else self.multiply(features)
        return logits.log_softmax(dim=-1, dtype=torch.float)[:, : self.classes]

    def multiply(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows padded"]:
        """Return the logits of the classes, and after them those of the padding, which are minus infinity."""
        if not self.is_relative:
            return functional.linear(features.to(self.weight.dtype), self.weight, self.bias)
        logits, greatest = self._multiply_relative(features)
        return logits + greatest.float()

    def _multiply_relative(
        self, features: Float[Tensor, "*rows features"]
    ) -> tuple[Float[Tensor, "*rows padded"], Float[Tensor, "*rows 1"]]:
        """Return logits less the greatest of the first classes, and this one."""
        greatest = functional.linear(features, self.weight, self.bias).amax(dim=-1, keepdim=True)
        factors = torch.cat([features, torch.ones_like(greatest), -greatest], dim=-1)
        factors = functional.pad(factors, (0, self.columns.size(1) - factors.size(-1)))
        return functional.linear(factors, self.columns), greatest
