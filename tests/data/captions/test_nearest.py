"""The nearest training images against distances that are computed one by one."""

import math
import statistics

import torch

from attendgen.data.captions.nearest import MIN_STD, NearestCaptions
from attendgen.utils.special_tokens import PAD


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def test_nearest_images_have_the_greatest_cosine_of_standardized_means():
    torch.manual_seed(0)
    scales = torch.tensor([100.0, 1.0, 0.01, 1.0])
    means, annotations = torch.randn(30, 4) * scales + 5, torch.randn(6, 3, 4) * scales + 5
    numbers = list(zip(*means.tolist(), strict=True))
    spread = [(statistics.fmean(row), statistics.pstdev(row) + MIN_STD) for row in numbers]

    def standardize(vector: list[float]) -> list[float]:
        return [(value - mean) / std for value, (mean, std) in zip(vector, spread, strict=True)]

    expected = []
    for image in annotations.tolist():
        query = standardize([statistics.fmean(column) for column in zip(*image, strict=True)])
        similarity = {index: cosine(query, standardize(row)) for index, row in enumerate(means.tolist())}
        expected.append(sorted(similarity, key=similarity.__getitem__, reverse=True)[:5])
    assert NearestCaptions(means, [], 5).find(annotations).tolist() == expected


def test_all_captions_of_the_nearest_images_are_returned():
    means = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [0.0, -1.0]])
    captions = [[[4, 5], [6]], [[7, 8, 9]], [[10]], [[11], [12, 13], [14]]]
    found = NearestCaptions(means, captions, 2)(means[[0, 2]].unsqueeze(1))
    assert found[0].tolist() == [[4, 5, PAD], [6, PAD, PAD], [7, 8, 9]]
    assert found[1][0].tolist()[0] == 10
    assert len(found[1]) == 4, "an image may have more captions than another"
