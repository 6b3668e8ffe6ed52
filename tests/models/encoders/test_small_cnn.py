import torch

from attendgen.models.encoders.small_cnn import SmallCNN


def make_images(size: int, number: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def test_the_grid_has_the_promised_shape():
    encoder = SmallCNN((8, 16, 32), size=64).eval()
    assert encoder.size == 64
    with torch.inference_mode():
        features = encoder(make_images(64))
    assert features.shape == (1, 64, 32)
    assert encoder.dim == 32
    assert features.std() > 0


def test_more_convolutions_widen_the_receptive_field():
    images = make_images(64)
    changed = images.clone()
    changed[..., 32:36, 32:36] += 128  # one cell of the grid, modulo 256
    radii = []
    for depth in (1, 2, 3):
        encoder = SmallCNN((16, 16), size=64, depth=depth).eval()
        different = (encoder(images) != encoder(changed)).any(dim=-1).view(16, 16).nonzero()
        radii.append((different - 8).abs().max().item())
    # two strided convolutions spread the cell to its neighbors, each further one by a cell
    assert radii == [2, 3, 4]
