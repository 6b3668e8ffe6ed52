"""A package of a user's own, in a temporary folder, with parts in place of AttendGen's."""

import sys
from pathlib import Path

import pytest

from attendgen.config.trust import VARIABLE

NAME = "mypaper"
CODE = '''
import torch
from torch import nn

from attendgen.data.parallel import ParallelDataModule
from attendgen.decoding.protocol import Decoded
from attendgen.layers.hard_attention import CategoricalSampler
from attendgen.layers.state import count_rows
from attendgen.losses.score_function import cost_to_go, expected_nll, reinforce
from attendgen.models.captioner import Captioner
from attendgen.models.seq2seq import Seq2Seq
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.language_model import LanguageModelTask
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.text.vocabulary import PairVocabulary, Vocabulary


class Repeat:
    """Not derived from AttendGen's: writes one token so many times."""

    def __init__(self, token=5, times=3, max_length=30):
        self.token, self.times, self.max_length = token, times, max_length

    def __call__(self, model, memory, state, suppress_tokens, prefix=None, eos_id=None):
        rows, times = count_rows(state), min(self.times, self.max_length)
        _, alpha, _ = model.step(torch.full((rows,), self.token), state, memory)
        zeros = torch.zeros(rows, 1, times)
        attention = alpha.view(rows, 1, 1, -1).expand(-1, -1, times, -1)
        return Decoded(torch.full((rows, 1, times), self.token), zeros[:, :, 0], zeros, attention)


class Weight:
    def __init__(self, weight):
        self.weight = weight


class Counting(Repeat):
    """Notes the rows that it is asked for, and its settings."""

    calls = []

    def __init__(self, scorer, times=3, max_length=30):
        super().__init__(times=times, max_length=max_length)
        self.scorer = scorer

    def __call__(self, model, memory, state, suppress_tokens):
        self.calls.append((count_rows(state), self.times, self.scorer.weight))
        return super().__call__(model, memory, state, suppress_tokens)


class OwnData(ParallelDataModule):
    """Sentence pairs without those whose source is too long."""

    def __init__(self, longest=1000, **settings):
        super().__init__(**settings)
        self.longest = longest

    def read(self, split):
        return [pair for pair in super().read(split) if len(pair[0]) <= self.longest]


class Chunks:
    """A tokenizer of so many characters each."""

    unit = "chunks"

    def __init__(self, size=2):
        self.size = size

    def split(self, text):
        return [text[i : i + self.size] for i in range(0, len(text), self.size)]

    def join(self, tokens):
        return "".join(tokens)

    def to_dict(self):
        return {"size": self.size}


class Shouted(Vocabulary):
    """A vocabulary of capitals."""

    def normalize(self, text):
        return super().normalize(text).upper()


class ShoutedData(ParallelDataModule):
    """Sentence pairs whose targets are written in capitals."""

    def build_vocabulary(self):
        source = super().build_vocabulary().source
        target = Shouted.build([target for _, target in self.read("train")])
        self.vocabulary = PairVocabulary(source, target)
        return self.vocabulary


class OwnModel(Seq2Seq):
    """A model with a parameter of its own."""

    def __init__(self, *args, start=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.tensor(start))

    def step(self, tokens, state, memory):
        log_probs, alpha, state = super().step(tokens, state, memory)
        return (self.gain * log_probs).log_softmax(dim=-1), alpha, state

    def forward(self, source, inputs):
        logits, alphas = super().forward(source, inputs)
        return self.gain * logits, alphas


class OwnCaptioner(Captioner):
    pass


class OwnSeq2SeqTask(Seq2SeqTask):
    monitor = ("val/exact_match", "max")

    def __init__(self, *args, weight=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.tensor(weight))

    def training_step(self, batch, batch_index):
        return self.scale.square() * super().training_step(batch, batch_index)


class OwnLanguageModelTask(LanguageModelTask):
    pass


class OwnCaptioningTask(CaptioningTask):
    def __init__(self, *args, focal=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.focal = focal

    def training_step(self, batch, batch_index):
        loss = super().training_step(batch, batch_index)
        self.log("train/own", loss.detach())
        return loss * (1 + self.focal)


class NotATask:
    def __init__(self, **settings):
        pass


class LearnedBaseline(nn.Module):
    """A score-function estimator whose baseline is learnt."""

    num_samples, soft = 2, False

    def __init__(self):
        super().__init__()
        self.sampler = CategoricalSampler()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, samples):
        cost, mask = cost_to_go(samples.nll), samples.mask.unsqueeze(1)
        error = ((cost.detach() - self.level) * mask).square().mean()
        surrogate = reinforce(cost, self.level.detach() * mask, samples.log_alpha)
        return expected_nll(samples) + surrogate + error
'''


def write_package(folder: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    """Write the package, put it on the path, and trust it or not."""
    (folder / "modules").mkdir()
    (folder / "modules" / f"{NAME}.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder / "modules")
    monkeypatch.setenv(VARIABLE, NAME if trusted else "")
    sys.modules.pop(NAME, None)


def forget_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user be one who has never trained with the package."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "other_settings"))


def write_config(folder: Path, group: str, name: str, text: str) -> None:
    """Write an option of a config group into `folder/conf`."""
    (folder / "conf" / group).mkdir(parents=True, exist_ok=True)
    (folder / "conf" / group / f"{name}.yaml").write_text(text)
