"""A small encoder to train from scratch."""

from collections.abc import Sequence

from torch import nn

from attendgen.models.encoders.base import GridEncoder


class SmallCNN(GridEncoder):
    """Strided 3x3 convolutions: each stage halves the image, so three stages make an 8x8 grid of 64 pixels.

    Args:
        channels: of each stage; the last is the length of a feature vector.
        size: height and width of the images in pixels.
        freeze: keep the random weights.
        depth: 3x3 convolutions over the grid, which widen the receptive field of each region.
    """

    def __init__(
        self, channels: Sequence[int] = (32, 64, 128), size: int = 64, freeze: bool = False, depth: int = 1
    ) -> None:
        last = channels[-1]
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *channels), channels, strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(last, last, 3, padding=1, bias=False), nn.BatchNorm2d(last), nn.ReLU()]
        layers += [nn.Conv2d(last, last, 3, padding=1), nn.ReLU()]
        super().__init__(nn.Sequential(*layers), last, size, (127.5,) * 3, (127.5,) * 3, freeze, "small_cnn")
