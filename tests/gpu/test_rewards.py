"""Rewards that a GPU computes are those of a CPU."""

import pytest
import torch

from attendgen.tasks.rewards import make_reward
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.special_tokens import EOS
from helpers.waiting import forbid_waiting

pytestmark = pytest.mark.gpu

IMAGES, WORDS = 300, 40


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"])
def test_rewards_are_those_of_a_cpu(dtype: torch.dtype | None, device: str) -> None:
    torch.manual_seed(1)
    vocabulary = Vocabulary([f"w{number}" for number in range(WORDS)], "caption")
    # rare words have great numbers, so that captions share n-grams
    drawn = torch.randn(IMAGES, 5, 12).abs().mul(5).int().clamp(max=WORDS - 1).tolist()
    captions = [[" ".join(f"w{number}" for number in caption) for caption in each] for each in drawn]
    reward = make_reward(dict(enumerate(captions)), vocabulary)
    images = torch.randint(IMAGES, (256,))
    tokens = torch.randn(256, 5, 16).abs().mul(5).long() + EOS
    expected = reward(images, tokens)
    assert (expected > 0).float().mean() > 0.5
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
        reward(images.to(device), tokens.to(device))  # moves the tables
        found = [part.to(device) for part in (images, tokens)]
        with forbid_waiting():
            scores = reward(*found)
    torch.testing.assert_close(scores.cpu(), expected, rtol=1e-5, atol=1e-5)
