"""Tiny captioning tasks that are used without a trainer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from attendgen.data.batch import CaptionBatch
from attendgen.decoding.config import DecodingConfig
from attendgen.layers.attention import AdditiveAttention
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.tasks.captioning import CaptioningTask
from attendgen.text.vocabulary import Vocabulary

WORDS = ["a", "red", "blue", "square"]  # ids 4 to 7


@pytest.fixture
def make_task() -> Callable[..., CaptioningTask]:
    """Make a task in evaluation mode, whose encoder has 9 regions of 4 numbers."""

    def make(
        kind: type[CaptioningTask] = CaptioningTask, inference_attention: str = "soft", **settings: Any
    ) -> CaptioningTask:
        torch.manual_seed(1)
        vocabulary = Vocabulary(WORDS, "caption")
        attention = partial(AdditiveAttention, dim=5)
        sizes = {"embedding_dim": 6, "hidden": 7, "inference_attention": inference_attention}
        model = Captioner(len(vocabulary), SmallCNN((4,), size=8), attention, **sizes)
        task = kind(model, vocabulary, torch.optim.Adam, lambda step: 1.0, DecodingConfig(), **settings)
        task.log = lambda *arguments, **options: None  # no trainer here
        return task.eval()

    return make


@pytest.fixture
def batch() -> CaptionBatch:
    """The features of two images; the first has captions of 3 and 2 tokens, the second one of 2."""
    inputs = torch.tensor([[[1, 4, 5], [1, 4, 0]], [[1, 6, 0], [0, 0, 0]]])
    outputs = torch.tensor([[[4, 5, 2], [4, 2, 0]], [[6, 2, 0], [0, 0, 0]]])
    return CaptionBatch(torch.tensor([0, 1]), torch.randn(2, 9, 4), inputs, outputs)
