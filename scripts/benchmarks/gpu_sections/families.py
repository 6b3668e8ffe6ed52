"""The families that are measured: their configs, vocabularies and random batches."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from attendgen.config.instantiate import instantiate
from attendgen.config.resolvers import register_resolvers
from attendgen.data.batch import Batch, CaptionBatch, PairBatch, StreamBatch, WindowBatch, count_targets
from attendgen.tasks.rewards import Reward, make_reward
from attendgen.text.vocabulary import AnyVocabulary, PairVocabulary, Vocabulary
from attendgen.utils.resources import get_conf_dir
from attendgen.utils.special_tokens import SOS

TINY = 8  # numbers per region of --quick
CAPTIONS, WORDS = 5, 16  # per image and per caption, <eos> included
NOISE = 0.2  # share of tokens that do not follow from the token before


class Family(NamedTuple):
    """A model and its training task.

    Attributes:
        kind: of the batches: "captions", "pixels", "pairs", "windows" or "streams".
        overrides: of its config.
        batch: examples per batch of its config.
        length: tokens per example; of sources and targets for "pairs".
        regions, dim: of the features of an image.
    """

    kind: str
    overrides: tuple[str, ...]
    batch: int
    length: int
    regions: int = 0
    dim: int = 0


def describe_captioner(experiment: str, regions: int, dim: int, *overrides: str) -> Family:
    """Return a captioner that reads features, whose encoder is never called."""
    encoder = ("model/encoder=small_cnn", "model.encoder.freeze=true", "model.encoder.size=16")
    sizes = (f"model.encoder.channels=[4,{dim}]", "model.encoder.depth=1")
    return Family("captions", (f"experiment={experiment}", *encoder, *sizes, *overrides), 16, WORDS, regions, dim)


PLAIN_ENCODER = "model.encoder.pretrained=false"
WITHOUT_STAGES = "~model.encoder.extra_stages"
WORD_PAIRS = "experiment=multi30k_fr_en_words"
FAMILIES = {
    # with the encoder of the experiment, because an average of the weights holds the encoder's, too
    "soft_7x7x1280": Family("captions", ("experiment=flickr8k_soft", PLAIN_ENCODER), 16, WORDS, 49, 1280),
    "soft_9x9x1768": describe_captioner("flickr8k_multiscale", 81, 1768, WITHOUT_STAGES),
    "soft_14x14x2048": describe_captioner("flickr8k_soft", 196, 2048),
    "hard_9x9x1768": describe_captioner("flickr8k_hard", 81, 1768, WITHOUT_STAGES),
    "scst_9x9x1768": describe_captioner("flickr8k_scst", 81, 1768, WITHOUT_STAGES),
    "captioner_transformer": describe_captioner("flickr8k_transformer", 81, 1280),
    "small_cnn_pixels": Family("pixels", ("experiment=shapes",), 32, 6),
    "luong_parallel": Family("pairs", (WORD_PAIRS,), 64, 14),
    "luong_feeding": Family("pairs", (WORD_PAIRS, "model/decoder=luong"), 64, 14),
    "bahdanau": Family("pairs", (WORD_PAIRS, "model/decoder=bahdanau"), 64, 14),
    "seq2seq_transformer": Family("pairs", ("experiment=multi30k_fr_en_transformer",), 64, 14),
    "lm_lstm": Family("streams", ("experiment=novels_lstm",), 64, 128),
    "lm_lstm_window": Family("streams", ("experiment=novels_lstm", "model.attention_window=128"), 64, 128),
    "lm_context": Family("windows", ("experiment=novels",), 32, 192),
    "lm_textgenerate": Family("streams", ("experiment=novels_textgenerate",), 32, 128),
    "lm_transformer": Family("streams", ("experiment=novels_transformer",), 64, 128),
}
VOCABULARY_SIZES = {"captions": (2546,), "pixels": (20,), "pairs": (5900, 6500), "windows": (116,), "streams": (116,)}
LEVELS = {"captions": "caption", "pixels": "caption", "pairs": "words"}  # of others: characters


def list_tiny_overrides(name: str) -> list[str]:
    """Return the changes that make a family's model tiny, for --quick."""
    family = FAMILIES[name]
    is_shrunk = family.kind in ("captions", "pixels") and PLAIN_ENCODER not in family.overrides
    encoder = [f"model.encoder.channels=[4,{TINY}]"] * is_shrunk
    encoder += ["model.encoder.depth=1"] * (family.kind == "pixels")
    if "transformer" in name:
        return [*encoder, "model.dim=8", "model.heads=2"]
    sizes = [*encoder, "model.hidden=8"] + ["model.embedding_dim=8"] * (name != "lm_textgenerate")
    if family.kind == "captions":
        sizes += ["model.attention.dim=8"]
    return sizes + ["model.encoder_hidden=8"] * (family.kind in ("pairs", "windows"))


def shrink(family: Family) -> Family:
    """Return a family with tiny batches, for --quick."""
    length, regions, dim = min(family.length, 5), min(family.regions, 4), min(family.dim, TINY)
    dim = family.dim if PLAIN_ENCODER in family.overrides else dim
    return family._replace(batch=2, length=length, regions=regions, dim=dim)


def get_family(name: str, quick: bool) -> Family:
    """Return a family, tiny if it is quick."""
    return shrink(FAMILIES[name]) if quick else FAMILIES[name]


def list_overrides(name: str, quick: bool) -> list[str]:
    """Return the overrides of a family's config."""
    return [*FAMILIES[name].overrides, *(list_tiny_overrides(name) if quick else ())]


def make_vocabulary(name: str, quick: bool = False) -> AnyVocabulary:
    """Return the vocabulary of a family: made-up words, or characters."""
    kind = FAMILIES[name].kind
    parts = []
    for size in VOCABULARY_SIZES[kind]:
        count = min(size, 30) if quick else size
        tokens = spell_words(count) if kind in LEVELS else [chr(256 + i) for i in range(count)]
        parts.append(Vocabulary(tokens, LEVELS.get(kind, "characters")))
    return PairVocabulary(parts[1], parts[0]) if kind == "pairs" else parts[0]


def spell_words(count: int) -> list[str]:
    """Return different words of three letters or more."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    digits = max(3, math.ceil(math.log(count + 1, 26)))
    return ["".join(letters[i // 26**place % 26] for place in range(digits)) for i in range(count)]


def draw_tokens(shape: tuple[int, ...], size: int, generator: torch.Generator) -> Tensor:
    """Draw tokens, most of which follow from the token before them, so that a model can learn them."""
    noise = torch.randint(4, size, shape, generator=generator)
    is_noise = torch.rand(shape, generator=generator) < NOISE
    columns = [noise[..., 0]]
    for t in range(1, shape[-1]):
        follows = (5 * columns[-1] + 7) % (size - 4) + 4
        columns.append(torch.where(is_noise[..., t], noise[..., t], follows))
    return torch.stack(columns, dim=-1)


def make_batch(name: str, times: int = 1, seed: int = 0, quick: bool = False) -> Batch:
    """Return a batch on the CPU, `times` as large as the config's, with its totals."""
    family = get_family(name, quick)
    generator = torch.Generator().manual_seed(seed)
    batch = MAKERS[family.kind](family, make_vocabulary(name, quick), times * family.batch, generator)
    return batch._replace(totals=count_targets(batch.outputs))


def _shift(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return decoder inputs that begin with <sos>, and outputs."""
    return torch.cat([torch.full_like(tokens[..., :1], SOS), tokens[..., :-1]], dim=-1), tokens


def _make_captions(family: Family, vocabulary: Any, rows: int, generator: torch.Generator) -> CaptionBatch:
    captions = 1 if family.kind == "pixels" else CAPTIONS
    tokens = draw_tokens((rows, captions, family.length), len(vocabulary), generator)
    if family.kind == "pixels":
        images = torch.randint(0, 256, (rows, 3, 64, 64), dtype=torch.uint8, generator=generator)
    else:
        images = torch.randn(rows, family.regions, family.dim, generator=generator)
    return CaptionBatch(torch.arange(rows), images, *_shift(tokens))


def _make_pairs(family: Family, vocabulary: Any, rows: int, generator: torch.Generator) -> PairBatch:
    source = draw_tokens((rows, family.length), len(vocabulary.source), generator)
    source[rows // 2 :, family.length - 2 :] = 0  # padding, as in all real batches
    target = draw_tokens((rows, family.length), len(vocabulary.target), generator)
    return PairBatch(torch.arange(rows), source, *_shift(target))


def _make_windows(family: Family, vocabulary: Any, rows: int, generator: torch.Generator) -> WindowBatch:
    context = min(64, family.length)
    tokens = draw_tokens((rows, context + family.length), len(vocabulary), generator)
    return WindowBatch(tokens[:, :context], tokens[:, context - 1 : -1], tokens[:, context:])


def _make_streams(family: Family, vocabulary: Any, rows: int, generator: torch.Generator) -> StreamBatch:
    tokens = draw_tokens((rows, family.length + 1), len(vocabulary), generator)
    return StreamBatch(tokens[:, :-1], tokens[:, 1:], torch.zeros(rows, dtype=torch.bool))


MAKERS: dict[str, Callable[..., Any]] = {
    "captions": _make_captions,
    "pixels": _make_captions,
    "pairs": _make_pairs,
    "windows": _make_windows,
    "streams": _make_streams,
}


def make_batch_reward(batch: Any, vocabulary: Any) -> Reward:
    """Return the reward of self-critical training against the captions of a batch."""
    texts = {
        index: tuple(vocabulary.decode(caption) for caption in captions)
        for index, captions in zip(batch.index.tolist(), batch.outputs.tolist(), strict=True)
    }
    return make_reward(texts, vocabulary)


def compose_config(overrides: list[str]) -> DictConfig:
    """Return the config of a training."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides)
    OmegaConf.set_struct(config, False)
    config.name = config.paths.run = config.paths.outputs = "gpu"
    return config


def build_task(
    name: str, quick: bool, dropout: bool = True, vocabulary: AnyVocabulary | None = None
) -> tuple[Any, DictConfig]:
    """Return a family's task in training mode and its config.

    Args:
        dropout: false turns it off, because it would hide differences.
        vocabulary: of the model; the family's unless given.
    """
    torch.manual_seed(0)
    config = compose_config(list_overrides(name, quick))
    vocabulary = vocabulary or make_vocabulary(name, quick)
    model = instantiate(config.model, "model", **vocabulary.sizes())
    task = instantiate(config.task, "task", model=model, vocabulary=vocabulary)
    task.log = lambda *arguments, **options: None  # no trainer here
    if not dropout:
        remove_dropout(task)
    return task.train(), config


def remove_dropout(task: torch.nn.Module) -> None:
    """Set all rates of dropout of a task to zero."""
    for module in task.modules():
        for field, value in vars(module).items():
            is_rate = "dropout" in field or (field == "p" and isinstance(module, _DropoutNd))
            if is_rate and isinstance(value, float):
                setattr(module, field, 0.0)


def forget_state(task: Any) -> None:
    """Let a language model begin with the first state again."""
    for state in getattr(task, "recurrent", {}).values():
        state.state = None
