"""The families that are measured: their configs, vocabularies and random batches."""

from typing import Any, NamedTuple

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from torch.nn.modules.dropout import _DropoutNd

from attendgen.config.instantiate import instantiate
from attendgen.config.resolvers import register_resolvers
from attendgen.data.batch import Batch, count_targets
from attendgen.tasks.rewards import Reward, make_reward
from attendgen.text.vocabulary import AnyVocabulary
from attendgen.utils.resources import get_conf_dir
from gpu_sections.batches import MAKERS, make_vocabulary_of

TINY = 8  # numbers per region of --quick
WORDS = 16  # per caption, <eos> included


class Family(NamedTuple):
    """A model and its training task.

    Attributes:
        kind: of the batches: "captions", "pixels", "pairs", "tables", "windows" or "streams".
        overrides: of its config.
        batch: examples per batch of its config.
        length: tokens per example; of sources and targets for "pairs".
        regions, dim: of the features of an image; of a table `regions` are its cells.
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
    "table": Family("tables", ("experiment=e2e",), 128, 25, 12),
    "table_hard": Family("tables", ("experiment=e2e", "task=table_to_text_hard"), 128, 25, 12),
    "table_rows": Family("tables", ("experiment=rotowire_games",), 8, 400, 600),
    "lm_lstm": Family("streams", ("experiment=novels_lstm",), 64, 128),
    "lm_lstm_window": Family("streams", ("experiment=novels_lstm", "model.attention_window=128"), 64, 128),
    "lm_context": Family("windows", ("experiment=novels",), 32, 192),
    "lm_textgenerate": Family("streams", ("experiment=novels_textgenerate",), 32, 128),
    "lm_transformer": Family("streams", ("experiment=novels_transformer",), 64, 128),
}


def list_tiny_overrides(name: str) -> list[str]:
    """Return the changes that make a family's model tiny, for --quick."""
    family = FAMILIES[name]
    is_shrunk = family.kind in ("captions", "pixels") and PLAIN_ENCODER not in family.overrides
    encoder = [f"model.encoder.channels=[4,{TINY}]"] * is_shrunk
    encoder += ["model.encoder.depth=1"] * (family.kind == "pixels")
    if family.kind == "tables":
        encoder = ["model.encoder.dim=8", "model.encoder.embedding_dim=8"]
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
    return make_vocabulary_of(FAMILIES[name].kind, quick)


def make_batch(name: str, times: int = 1, seed: int = 0, quick: bool = False) -> Batch:
    """Return a batch on the CPU, `times` as large as the config's, with its totals."""
    family = get_family(name, quick)
    generator = torch.Generator().manual_seed(seed)
    batch = MAKERS[family.kind](family, make_vocabulary(name, quick), times * family.batch, generator)
    return batch._replace(totals=count_targets(batch.outputs))


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
