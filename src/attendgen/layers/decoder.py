"""The interfaces between a model and its decoder.

Shapes: `batch` inputs; `rows` = inputs x hypotheses of each. Several rows may share one row of the memory.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from attendgen.layers.fast_paths import stands_for
from attendgen.layers.hard_attention import AttentionSampler
from attendgen.layers.state import Memory


@runtime_checkable
class Decoder(Protocol):
    """The interface between a model and its decoder.

    A model makes it from the sizes of its `inputs`, `hidden` and `memory` and from `attention`, a function that makes
    an attention layer from `query` and `memory` sizes. A state is any tree of batch-first tensors, see
    `attendgen.layers.state`.

    Attributes:
        features: the size of what it hands to the output layer.
        layers: how many pairs of a first hidden state and cell it is given; 0 if it needs none.
    """

    features: int
    layers: int

    def keys(self, values: Float[Tensor, "batch source memory"]) -> Any:
        """Return what is computed once per memory, a tree of batch-first tensors: `Memory.keys`."""

    def initial_state(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"], memory: Memory
    ) -> Any:
        """Return the first state."""

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], Any]:
        """Compute one step: what the output layer reads, the attention weights, and the new state."""

    def __call__(
        self, inputs: Float[Tensor, "rows time inputs"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], Any]:
        """Compute all steps of known inputs: what the output layer reads, the attention weights, and the last state."""


class AttendedStep(NamedTuple):
    """What one step attended to: the context before its gate, alpha, the weights of the sum, and the gate beta.

    Attributes:
        relaxed, noise: see `SampledWeights`.
    """

    context: Float[Tensor, "rows memory"]
    alpha: Float[Tensor, "rows source"]
    weights: Float[Tensor, "rows source"]
    beta: Float[Tensor, "rows gate"] | None
    relaxed: Float[Tensor, "rows source"] | None = None
    noise: Float[Tensor, "rows source"] | None = None

    @property
    def gated(self) -> Float[Tensor, "rows memory"]:
        """The context times beta, or the context without a gate."""
        return self.context if self.beta is None else self.beta * self.context


class AttendedSteps(NamedTuple):
    """What all steps computed.

    Attributes:
        contexts: after their gate; multiplied with `readout` if one was given; None if the hidden states hold them.
        alphas: attention weights.
        weights: with which the memory was summed: alpha, or what a sampler made of it.
        state: after the last step.
        relaxed, noise: see `SampledWeights`.
    """

    hidden: Float[Tensor, "rows time hidden"]
    contexts: Float[Tensor, "rows time features"] | None
    alphas: Float[Tensor, "rows time source"]
    weights: Float[Tensor, "rows time source"]
    state: Any
    relaxed: Float[Tensor, "rows time source"] | None = None
    noise: Float[Tensor, "rows time source"] | None = None


@runtime_checkable
class HardDecoder(Decoder, Protocol):
    """A decoder that can attend to sampled locations (Xu et al. 2015, 4.1), and hands over state and context apart.

    Attributes:
        hidden: the size of the hidden state.
    """

    hidden: int

    def require_weighted_sum(self) -> None:
        """Check that the attention can be hard.

        Raises:
            UserError: the context of its layer is not `alpha @ memory`.
        """

    def attend_step(
        self,
        inputs: Float[Tensor, "rows inputs"],
        state: Any,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> tuple[Any, AttendedStep]:
        """Compute one step: the new state, which has a field `hidden`, and what was attended to.

        Args:
            sampler: of hard attention; alpha itself unless given.
        """

    def attend_steps(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: Any,
        memory: Memory,
        sampler: AttentionSampler | None = None,
        readout: Float[Tensor, "features memory"] | None = None,
    ) -> AttendedSteps:
        """Compute all steps of known inputs.

        Args:
            sampler: of hard attention; alpha itself unless given.
            readout: a matrix with which the contexts are multiplied in the end.
        """


def hands_over_parts(decoder: Any) -> bool:
    """Return whether a decoder is a `HardDecoder` whose own `step` and call, if a subclass has them, are its last word.

    A subclass that defines only `step`, or only the call, is used as a `Decoder`: `attend_step` would bypass it.
    """
    is_own = not (stands_for(decoder, "attend_step", "step") and stands_for(decoder, "attend_steps", "forward"))
    return isinstance(decoder, HardDecoder) and not is_own
