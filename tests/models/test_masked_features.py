"""Images with different numbers of regions: padding has no influence, through a model, its ensemble and a cache."""

from functools import partial

import numpy as np
import pytest
import torch

from attendgen.data.captions.dataset import collate
from attendgen.data.captions.features import FeatureCache, cache_features
from attendgen.data.captions.nearest import NearestCaptions
from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.encoder import Features, average_regions, join_features
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.transformer_captioner import TransformerCaptioner
from helpers.errors import refusal
from helpers.tiny_data import image


class Detector(GridEncoder):
    """As many regions per image as its first pixel says, padded to `regions`."""

    def __init__(self, regions: int = 4) -> None:
        super().__init__(torch.nn.Conv2d(3, 5, 4, stride=4), dim=5, size=8, name="detector")
        self.regions = regions

    def forward(self, images):
        values = super().forward(images)[:, : self.regions]
        count = 1 + images[:, 0, 0, 0].long() % self.regions
        return values, torch.arange(values.size(1)) < count.unsqueeze(1)


@pytest.fixture(params=["lstm", "transformer"])
def model(request) -> Captioner | TransformerCaptioner:
    torch.manual_seed(2)
    if request.param == "transformer":
        return TransformerCaptioner(9, Detector(), dim=8, heads=2, layers=2, region_layers=1).eval()
    return Captioner(9, Detector(), partial(AdditiveAttention, dim=5), embedding_dim=6, hidden=7, feature_dim=3).eval()


@pytest.fixture
def features() -> Features:
    torch.manual_seed(3)
    return Features(torch.randn(2, 4, 5), torch.tensor([[True, True, False, False], [True, True, True, True]]))


INPUTS = torch.tensor([[[1, 4, 5]], [[1, 6, 7]]])


def test_padding_has_no_influence(model, features):
    logits, alphas = model(features, INPUTS)
    alone, weights = model(features.values[:1, :2], INPUTS[:1])
    torch.testing.assert_close(logits[:1], alone)
    torch.testing.assert_close(alphas[:1, ..., :2], weights)
    assert not alphas[0, ..., 2:].any()
    other = Features(features.values.masked_fill(~features.mask.unsqueeze(-1), 1e3), features.mask)
    torch.testing.assert_close(model(other, INPUTS)[0], logits)


def test_a_step_attends_to_real_regions_alone(model, features):
    memory, state = model.encode(features)
    first, _ = model.encode(features.values[:1, :2])
    log_probs, alpha, _ = model.step(torch.tensor([1, 1]), state, memory)
    assert not alpha[0, 2:].any()
    expected = model.step(torch.tensor([1]), model.encode(features.values[:1, :2])[1], first)[0]
    torch.testing.assert_close(log_probs[:1], expected)


def test_an_encoder_may_return_a_mask(model):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[1, 0, 0, 0] = 2
    found = model.encode_images(images)
    assert isinstance(found, Features)
    assert found.mask.sum(dim=1).tolist() == [1, 3]


def test_mean_is_over_real_regions(features):
    values, mask = features
    torch.testing.assert_close(average_regions(values, mask)[0], values[0, :2].mean(dim=0))
    torch.testing.assert_close(average_regions(values, mask)[1], values[1].mean(dim=0))
    index = NearestCaptions(torch.stack([values[1].mean(0), values[0, :2].mean(0)]), [[[4]], [[5]]])
    assert index.find(features).tolist() == [[1], [0]]


def test_a_cache_keeps_the_masks(tmp_path):
    encoder = Detector()
    paths = [image(tmp_path / f"{red}.png", f"rgb({red},9,9)", (8, 8)) for red in (0, 1, 2, 3, 7)]
    cache = cache_features(encoder, paths, tmp_path / "cache", batch_size=2)
    assert cache.mask.sum(axis=1).tolist() == [1, 2, 3, 4, 4]
    again = cache_features(encoder, paths, tmp_path / "cache")
    assert isinstance(again[2], Features)
    assert again[2].mask.tolist() == [True, True, True, False]
    ids = [[4, 5]]
    batch = collate([(0, again[0], ids), (2, again[2], ids)])
    assert batch.images.values.shape == (2, 4, 5)
    assert batch.images.mask.sum(dim=1).tolist() == [1, 3]
    expected = [again[i].values[again[i].mask].mean(dim=0) for i in range(5)]
    torch.testing.assert_close(cache.means(each=2), torch.stack(expected))
    assert not np.load(cache.path, mmap_mode="r").shape[1] - 4
    plain = cache_features(GridEncoder(encoder.backbone, 5, 8, name="plain"), paths, tmp_path / "cache")
    assert isinstance(plain, FeatureCache)
    assert isinstance(plain[0], torch.Tensor)


def test_a_number_of_regions_that_changes_cannot_be_cached(tmp_path):
    class Changing(Detector):
        def forward(self, images):
            self.regions = 3 if images.any() else 4
            return super().forward(images)

    paths = [image(tmp_path / "a.png", "red", (8, 8))]
    message = refusal(cache_features, Changing(), paths, tmp_path / "cache")
    assert message.startswith("model.encoder: 4 regions in one batch, 3 in another; pad them")


def test_features_of_batches_are_joined_to_those_of_one() -> None:
    one, two = torch.randn(2, 3, 4), torch.randn(1, 3, 4)
    joined = join_features([one, two])
    assert isinstance(joined, torch.Tensor)
    torch.testing.assert_close(joined, torch.cat([one, two]))
    mask = torch.tensor([[True, True, False, True, False]])
    padded = join_features([one, Features(torch.randn(1, 5, 4), mask)])
    assert isinstance(padded, Features)
    torch.testing.assert_close(padded.values[:2, :3], one)
    assert not padded.values[:2, 3:].any()
    assert padded.mask.tolist() == [[True] * 3 + [False] * 2] * 2 + mask.tolist()
