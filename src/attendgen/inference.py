"""A trained model ready to use: text in, or a picture in, text and attention out."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from hydra.utils import get_object
from jaxtyping import Float, Int
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from attendgen.construction import construct
from attendgen.data.batch import pad, real, shifted
from attendgen.data.images import open_image, to_pixels, to_rgb
from attendgen.data.neighbours import Neighbours
from attendgen.decoding.protocol import Decoded, PieceReader, Reader, over_text, pieces_over_text, take_rows
from attendgen.errors import UserError
from attendgen.runs import Run, serve
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.lm import LanguageModelTask
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.trust import trust as trust_packages
from attendgen.vocabulary import PAD, Vocabulary


@dataclass(frozen=True)
class Result:
    """One output.

    Attributes:
        text: the output as text.
        tokens: its symbols, with <eos> where it was emitted: one for each row of `attention`.
        score: what the search ranked by: the sum of log-probabilities, after any penalties, or the expected similarity.
        log_probs: natural log-probability of each token [tokens].
        source: the symbols attended to; empty for a picture.
        attention: the weights with which each token was predicted [tokens, source or regions].
    """

    text: str
    tokens: list[str]
    score: float
    log_probs: Float[np.ndarray, "tokens"]
    source: list[str]
    attention: Float[np.ndarray, "tokens source"]


def results(decoded: Decoded, row: int, vocabulary: Vocabulary, source: Sequence[str] = ()) -> list[Result]:
    """The n best outputs of one input."""
    found = []
    for n in range(decoded.tokens.size(1)):
        ids = decoded.tokens[row, n]
        real = ids != PAD
        if not real.any() or decoded.scores[row, n] == -torch.inf:  # the search found fewer than n
            continue
        attention = decoded.attention[row, n][real].float().cpu().numpy()
        found.append(
            Result(
                vocabulary.decode(ids.tolist()),
                [vocabulary.symbols[i] for i in ids[real].tolist()],
                float(decoded.scores[row, n]),
                decoded.log_probs[row, n][real].cpu().numpy(),
                list(source),
                attention[:, : len(source)] if source else attention,
            )
        )
    return found


def forced(
    logits: Float[Tensor, "batch time symbols"],
    alphas: Float[Tensor, "batch time source"],
    outputs: Int[Tensor, "batch time"],
) -> Decoded:
    """Given outputs as if a search had found them."""
    outputs = outputs.to(logits.device)
    log_probs = logits.float().log_softmax(dim=-1).gather(2, outputs.unsqueeze(-1)).squeeze(-1)
    log_probs = log_probs.masked_fill(~real(outputs), 0.0).unsqueeze(1)
    return Decoded(outputs.unsqueeze(1), log_probs.sum(dim=2), log_probs, alphas.unsqueeze(1))


def joined(parts: Sequence[Decoded], windows: bool = False) -> Decoded:
    """Continuations made part by part as one; of `windows` the attention is that of the first, then zero."""
    tokens, log_probs = (torch.cat(part, dim=2) for part in zip(*((p.tokens, p.log_probs) for p in parts), strict=True))
    first = parts[0].attention
    rest = [first.new_zeros(*p.tokens.shape, first.size(-1)) if windows else p.attention for p in parts[1:]]
    return Decoded(tokens, log_probs.sum(dim=2), log_probs, torch.cat([first, *rest], dim=2))


def make_search(run: Run, options: dict[str, Any]) -> Any:
    """Make the search that the run's validation uses, with the options that are not None in place of its settings.

    Raises:
        UserError: an option is out of range, two exclude each other, or the search has no such setting.
    """
    given = {name: value for name, value in options.items() if value is not None}
    own = OmegaConf.select(run.config, "task.search")
    settings: Any = OmegaConf.to_container(run.config.decoding if own is None else own, resolve=True)
    for name in given:
        if not _takes(get_object(settings["_target_"]), name):
            raise UserError(f"decoding: {settings['_target_']} has no setting {name!r}")
    sampling = {"temperature", "top_k", "top_p"} & given.keys()
    if sampling and not given.get("consensus", settings.get("consensus", 0)):
        settings.pop("beam", None)  # sampling instead of the run's beam
    if given.get("beam", 1) > 1 and not sampling:
        for name in ("temperature", "top_k", "top_p"):
            settings.pop(name, None)
    return construct(OmegaConf.create({**settings, **given}), "decoding")


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function or class takes an argument by this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


class Translator:
    """A trained sequence-to-sequence model."""

    def __init__(self, run: Run, task: Seq2SeqTask) -> None:
        self.run = run
        self.task = task
        self.vocabulary = task.vocabulary

    def generate(self, text: str, **options: Any) -> list[Result]:
        """The outputs for one source text, best first; `options` are those of `Search`.

        Raises:
            UserError: the text is empty or has no known symbol, or an option is wrong.
        """
        return self.generate_all([text], **options)[0]

    @torch.inference_mode()
    def generate_all(self, texts: Sequence[str], **options: Any) -> list[list[Result]]:
        """The outputs for each of some source texts, decoded as one batch.

        Raises:
            UserError: a text is empty or has no known symbol, or an option is wrong.
        """
        search = make_search(self.run, options)
        sources = [self.vocabulary.source.encode_known(text, "text") for text in texts]
        memory, state = self.task.model.start(pad(sources).to(self.task.device))
        decoded = search(self.task.model, memory, state, self.vocabulary.target.forbidden)
        symbols = self.vocabulary.source.symbols
        return [
            results(decoded, row, self.vocabulary.target, [symbols[i] for i in source])
            for row, source in enumerate(sources)
        ]

    @torch.inference_mode()
    def score(self, text: str, reference: str) -> Result:
        """How likely a given output is: `score` is its log-probability, with that of <eos>.

        Raises:
            UserError: a text is empty or has no known symbol.
        """
        source = self.vocabulary.source.encode_known(text, "text")
        inputs, outputs = shifted([self.vocabulary.target.encode_known(reference, "score")])
        logits, alphas = self.task.model(pad([source]).to(self.task.device), inputs.to(self.task.device))
        asked = [self.vocabulary.source.symbols[i] for i in source]
        return results(forced(logits, alphas, outputs), 0, self.vocabulary.target, asked)[0]


class TextGenerator:
    """A trained language model, continuing a context."""

    def __init__(self, run: Run, task: LanguageModelTask) -> None:
        self.run = run
        self.task = task
        self.vocabulary = task.vocabulary

    def to_bfloat16(self) -> None:
        """Keep the weights in bfloat16 from now on: batches are written faster, log-probabilities are rounded."""
        self.task.model.bfloat16()

    def outputs(self, **options: Any) -> int:
        """How many continuations of a context these options ask for.

        Raises:
            UserError: an option is wrong.
        """
        return getattr(self.search(options), "n_best", 1)

    def search(self, options: dict[str, Any]) -> Any:
        """The search that the run names, changed by the options.

        Raises:
            UserError: an option is wrong.
        """
        search = make_search(self.run, options)
        if getattr(search, "beam", 1) > 1:
            raise UserError(f"beam={search.beam}: a language model samples or decodes greedily; leave --beam out")
        if not hasattr(search, "max_length"):
            raise UserError(f"decoding: {type(search).__name__} has no max_length, which continuing a text needs")
        return search

    @torch.inference_mode()
    def generate(self, text: str, watch: Callable[[str], None] | None = None, **options: Any) -> list[Result]:
        """`n_best` continuations of a context, likeliest first, made as one batch; `options` are those of `Search`.

        A model that reads on for ever reads the whole context. One with a window reads the last characters that the
        window holds, and after each window of continuation it reads anew what now stands to the left. `attention` holds
        the weights over `source`: the context of the first window, or all of the text if a model reads on.

        Args:
            watch: called with each character of a single continuation as it is made, or with all characters of a
                window where the search cannot be watched.

        Raises:
            UserError: the text is empty or has no known character, or an option is wrong.
        """
        search = self.search(options)
        rows = getattr(search, "n_best", 1)
        if rows > 1:
            search.n_best = 1  # every continuation is a row of its own: their texts soon differ
        ids = self.vocabulary.encode_known(text, "text")
        texts = torch.tensor([ids], device=self.task.device)
        parts: list[Decoded] = []
        model, wanted, state = self.task.model, search.max_length, None
        extra: dict[str, Any] = {}
        if watch is not None and _takes(search, "watch"):
            extra["watch"] = lambda chosen: watch(self.vocabulary.symbols[int(chosen[0])])
        context, time = self.window(len(ids), wanted)
        if isinstance(model, PieceReader):
            time = model.piece
        new = context  # characters at the end of each text that `start` is to read
        while (made := texts.size(1) - len(ids)) < wanted:
            search.max_length = min(time, wanted - made)
            memory, state = self.start(texts[:, -new:], state)
            if not parts:  # the context is read once, however many continue it
                copies = torch.zeros(rows, dtype=torch.long, device=texts.device)
                texts, state = texts[copies], take_rows(state, copies)
            decoded = search(model, memory, state, self.task.forbidden, first=texts[:, -1], stop=None, **extra)
            parts.append(decoded)
            if watch is not None and not extra:  # a search of the user's own that shows nothing until it is done
                watch("".join(self.vocabulary.symbols[i] for i in decoded.tokens[0, 0].tolist()))
            texts = torch.cat([texts, decoded.tokens[:, 0]], dim=1)
            new = search.max_length + 1 if isinstance(model, PieceReader) else context
        read = [self.vocabulary.symbols[i] for i in ids[-context:]]
        found = [result for row in range(rows) for result in self.results(parts, row, read)]
        return sorted(found, key=lambda result: -result.score)

    def start(self, texts: Int[Tensor, "rows new"], state: Any) -> tuple[Any, Any]:
        """Memory and state after texts, which go on from a state if the model reads piece by piece."""
        if isinstance(self.task.model, PieceReader):
            return self.task.model.start(texts, state)
        return self.task.model.start(texts)

    def window(self, context: int, time: int) -> tuple[int, int]:
        """How much of a context is read, and how many characters are continued, before reading anew."""
        if isinstance(self.task.model, Reader):
            return context, time
        return int(self.run.config.data.context), int(self.run.config.data.time)

    def results(self, parts: Sequence[Decoded], row: int, read: list[str]) -> list[Result]:
        """A continuation made part by part after `read`."""
        model = self.task.model
        if not isinstance(model, Reader):
            return results(joined(parts, windows=True), row, self.vocabulary, read)
        found = []
        for result in results(joined(parts), row, self.vocabulary):
            if result.attention.size:  # else it does not attend
                alphas = torch.from_numpy(result.attention)
                if isinstance(model, PieceReader):
                    weights = pieces_over_text(alphas, len(read), model.piece)
                else:
                    weights = over_text(alphas, len(read))
                result = replace(result, source=[*read, *result.tokens], attention=weights.numpy())
            found.append(result)
        return found

    def generate_all(self, texts: Sequence[str], **options: Any) -> list[list[Result]]:
        """The continuations of each of some contexts.

        Raises:
            UserError: a text is empty or has no known character, or an option is wrong.
        """
        return [self.generate(text, **options) for text in texts]

    @torch.inference_mode()
    def score(self, text: str, reference: str) -> Result:
        """How likely a given continuation is: `score` is its log-probability.

        It is read as `generate` writes: window by window, each with what stands to its left as context.

        Raises:
            UserError: a text is empty or has no known character.
        """
        before = self.vocabulary.encode_known(text, "text")
        after = self.vocabulary.encode_known(reference, "score")
        context, time = self.window(len(before), len(after))
        ids = torch.tensor([before + after], device=self.task.device)
        parts = []
        for begin in range(len(before), ids.size(1), time):
            window = ids[:, begin : begin + time]
            logits, alphas = self.task.model(
                ids[:, max(0, begin - context) : begin], ids[:, begin - 1 : begin + window.size(1) - 1]
            )
            parts.append(forced(logits, alphas, window))
        return self.results(parts, 0, [self.vocabulary.symbols[i] for i in before[-context:]])[0]


class PictureCaptioner:
    """A trained captioner."""

    def __init__(self, run: Run, task: CaptioningTask) -> None:
        self.run = run
        self.task = task
        self.vocabulary = task.vocabulary
        self._neighbours: dict[int, Neighbours] = {}  # by their number

    def neighbours(self, number: int) -> Neighbours:
        """So many training pictures like a picture, of the data that the run was trained on.

        Raises:
            UserError: the data is not where the run's config says, or there are not so many pictures.
        """
        if number not in self._neighbours:
            data = construct(self.run.config.data)
            serve(data, self.task, self.vocabulary)
            self._neighbours[number] = data.neighbours(number)
        return self._neighbours[number]

    @torch.inference_mode()
    def caption(self, image: str | Path | Image.Image, **options: Any) -> list[Result]:
        """The captions of a picture of any size and mode, best first; `options` are those of `Search`.

        Raises:
            UserError: the file is missing or no picture, or an option is wrong.
        """
        search = make_search(self.run, options)
        picture = to_rgb(image) if isinstance(image, Image.Image) else open_image(image)
        model = self.task.model
        pixels = to_pixels(picture, model.encoder.size).unsqueeze(0).to(self.task.device)
        annotations = model.annotate(pixels)
        wanted = getattr(search, "neighbours", 0)
        extra = {"others": self.neighbours(wanted)(annotations)} if wanted else {}
        memory, state = model.start(annotations)
        decoded = search(model, memory, state, self.vocabulary.forbidden, **extra)
        return results(decoded, 0, self.vocabulary)


Model = Translator | TextGenerator | PictureCaptioner

FAMILIES: dict[type[lightning.LightningModule], Callable[[Run, Any], Model]] = {
    Seq2SeqTask: Translator,
    LanguageModelTask: TextGenerator,
    CaptioningTask: PictureCaptioner,
}


def load(run: str | Path | Run, trust: Sequence[str] = ()) -> Model:
    """A trained model from a run directory or a `.ckpt` file, on the CPU.

    A task of the user's own is served as the task of AttendGen that it is derived from.

    Args:
        trust: Python packages of the user's own, whose classes the run may name.

    Raises:
        UserError: it is missing or broken, or its task belongs to no family.
    """
    trust_packages(trust)
    run = run if isinstance(run, Run) else Run.find(run)
    task = run.build()
    for kind in type(task).__mro__:
        if kind in FAMILIES:
            return FAMILIES[kind](run, task)
    tasks = ", ".join(kind.__name__ for kind in FAMILIES)
    raise UserError(f"{run.checkpoint}: task {run.config.task._target_} is derived from none of {tasks}")
