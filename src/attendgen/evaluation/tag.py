"""Names that keep evaluations with different settings apart."""

import hashlib
import json
import re

from omegaconf import DictConfig, OmegaConf

from attendgen.utils.errors import UserError

# settings that say where data lies and how fast it is read: scores do not depend on them
NEUTRAL = (
    *("data.root", "data.cache", "data.workers", "data.batch_size", "data.eval_batch_size"),
    *("paths", "trainer", "logger", "callbacks", "threads", "hydra"),
)

SHORT = {
    "beam_size": "beam",
    "length_penalty": "lp",
    "length_penalty_type": "lp",
    "coverage_penalty": "cp",
    "no_repeat_ngram_size": "norepeat",
    "temperature": "t",
    "top_k": "topk",
    "top_p": "topp",
    "n_best": "nbest",
    "max_length": "max",
    "min_length": "min",
    "mbr_samples": "mbr",
    "retrieval_captions": "retrieval",
}
LONGEST = 60  # characters of a tag


def make_tag(own: DictConfig, used: DictConfig, overrides: list[str], **more: object) -> str:
    """Return the tag of an evaluation: the overridden settings in short, such as "beam5_lp1.2".

    It is empty for the run's own settings. The order of the overrides does not matter.

    Args:
        own: the run's config.
        used: the config with the overrides.
        more: settings that are not of the config, by name.
    """
    keys = sorted({override.partition("=")[0] for override in overrides})
    parts = [_shorten(key, value) for key in keys if (value := _get(used, key)) != _get(own, key) if _matters(key)]
    parts += [f"{name}{value}" for name, value in more.items()]
    tag = "_".join(parts)
    return tag if len(tag) <= LONGEST else f"{tag[: LONGEST - 7]}-{_digest(tag)}"


def require_tag(tag: str) -> str:
    """Return a tag that a user has chosen.

    Raises:
        UserError: it cannot be a part of a file's name.
    """
    if tag and not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", tag):
        raise UserError(f"--tag {tag}: use letters, digits, and the signs . _ + -")
    return tag


def _matters(key: str) -> bool:
    return not any(key == name or key.startswith(f"{name}.") for name in NEUTRAL)


def _get(config: DictConfig, key: str) -> object:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _shorten(key: str, value: object) -> str:
    group, _, name = key.rpartition(".")
    if group.rpartition(".")[2] == "decoding":
        name = SHORT.get(name, name)
    if isinstance(value, bool | int | float) or value is None:
        return f"{name}{str(value).lower()}"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    slug = re.sub(r"[^A-Za-z0-9.+-]+", "-", text.rpartition("/")[2]).strip("-.")[:20]
    return f"{name}-{slug}" if slug == text else f"{name}-{slug}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
