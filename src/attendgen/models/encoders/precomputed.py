"""In place of an encoder: features that another program has computed."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from attendgen.utils.errors import UserError


class PrecomputedFeatures(nn.Module):
    """Says what the features of `data.features` are like; reads no images.

    Args:
        dim: length of a feature vector.
        size: ignored; experiments set it for encoders that read images.
    """

    name = "precomputed"
    frozen = True
    reads_features = True

    def __init__(self, dim: int, size: int = 1) -> None:
        super().__init__()
        self.size = size
        self.dim = dim

    def forward(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch regions dim"]:
        """Refuse images.

        Raises:
            UserError: always.
        """
        raise UserError("model.encoder: reads features, not images; give .npy or .npz files, or data.features")
