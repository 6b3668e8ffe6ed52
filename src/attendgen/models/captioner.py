"""Show, Attend and Tell (Xu et al. 2015): an image in, a caption out, word by word.

attendgen train experiment=flickr8k_soft
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.attention_protocol import Attention
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.decoder import AttendedSteps, Decoder, hands_over_parts
from attendgen.layers.encoder import Features, ImageEncoder, average_regions, split_mask
from attendgen.layers.fast_paths import are_products, stands_for
from attendgen.layers.fast_tanh import fast_tanh
from attendgen.layers.half_precision import get_weight
from attendgen.layers.hard_attention import (
    INFERENCE_ATTENTION,
    AllButLastSampler,
    AttentionSampler,
    AttentionSamples,
    drop_alike,
)
from attendgen.layers.output import OutputLayer
from attendgen.layers.plain import use_plain_autograd
from attendgen.layers.prepared import PreparedDecoder, can_prepare, has_usual_layers
from attendgen.layers.state import Memory, map_tensors, repeat_rows
from attendgen.models.encoders.base import ImageModel
from attendgen.models.prepared import PreparedCaptioner
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD

# of the decoder's first state; the paper says none, the authors' code has tanh
INIT_STATE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "none": lambda values: values}


class Captioner(ImageModel):
    """Grid encoder, attention over its annotation vectors, and a decoder with deep output.

    The annotation vectors of the paper (3.1.1) are called features here.

    Shapes: `batch` images of `regions` features of `dim` numbers; `captions` per image, of `time` words; `rows` = batch
    x hypotheses or captions.

    Args:
        vocab_size: size of the vocabulary.
        encoder: turns pixels into features.
        attention: makes the attention layer from `query` and `memory` sizes.
        embedding_dim, hidden: sizes of the word embeddings and of the decoder's state.
        feature_dim: size to which the features are first reduced (linear and ReLU); None attends to them as they are,
            as the paper does.
        context_gate: of the default decoder: "none", "scalar" (beta of 4.2.1) or "vector".
        init_state_layers: of f_init, the perceptrons that make the first state from the mean feature, 1 or 2.
        init_state_activation: of the first state, one of `INIT_STATE_ACTIVATIONS`.
        deep_output: predict from the word and the decoder's features, by default [state, context] (equation 7); false
            predicts from the features, by default the state.
        dropout, word_dropout, memory_dropout: on the output layer's input, on word embeddings, on features.
        inference_attention: how decoding attends: "soft", or hard by "argmax" or "sample".
        fast: use the fast paths; false follows the equations, see `attendgen.layers.use_plain_autograd`.
        decoder: makes the decoder from the sizes of its `inputs`, `hidden` and `memory` and from `attention`; a
            `BahdanauDecoder` unless given.

    Raises:
        UserError: there is no such inference attention, gate, or number of layers; or the attention cannot be hard.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder: ImageEncoder,
        attention: Callable[..., Attention],
        embedding_dim: int = 512,
        hidden: int = 512,
        feature_dim: int | None = None,
        context_gate: str = "scalar",
        init_state_layers: int = 1,
        init_state_activation: str = "tanh",
        deep_output: bool = True,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
        memory_dropout: float = 0.0,
        inference_attention: str = "soft",
        fast: bool = True,
        decoder: Callable[..., Decoder] | None = None,
    ) -> None:
        super().__init__()
        if inference_attention not in INFERENCE_ATTENTION:
            choices = ", ".join(INFERENCE_ATTENTION)
            raise UserError(f"model.inference_attention={inference_attention}: unknown; choose one of {choices}")
        if init_state_activation not in INIT_STATE_ACTIVATIONS:
            choices = " or ".join(INIT_STATE_ACTIVATIONS)
            raise UserError(f"model.init_state_activation={init_state_activation}: unknown; choose {choices}")
        self.init_activation = INIT_STATE_ACTIVATIONS[init_state_activation]
        self.sampler = INFERENCE_ATTENTION[inference_attention]
        self.encoder = encoder
        memory = feature_dim or encoder.dim
        self.feature_proj = nn.Sequential(nn.Linear(encoder.dim, memory), nn.ReLU()) if feature_dim else nn.Identity()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD)
        default = functools.partial(BahdanauDecoder, context_gate=context_gate)
        make = default if decoder is None else decoder
        made = make(inputs=embedding_dim, hidden=hidden, memory=memory, attention=attention)
        self.hidden = hidden
        sizes = (memory, made.layers * hidden, init_state_layers)
        self.first_hidden = _make_perceptron(*sizes) if made.layers else None
        self.first_cell = _make_perceptron(*sizes) if made.layers else None
        self.decoder: Any = made
        self.can_be_hard = hands_over_parts(made)
        if self.is_hard:
            self.require_hard_attention()
        features = hidden if self.can_be_hard else made.features
        self.deep_hidden = nn.Linear(features, embedding_dim) if deep_output else None
        self.deep_context = nn.Linear(memory, embedding_dim, bias=False) if deep_output and self.can_be_hard else None
        self.output = OutputLayer(embedding_dim if deep_output else features, vocab_size)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = nn.Dropout(word_dropout)
        self.memory_dropout = memory_dropout
        self.masks: dict[str, Tensor] | None = None  # see `fixed_dropout_masks`
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)
            self.embedding.weight[PAD] = 0.0
        if not fast:
            use_plain_autograd(self)

    @property
    def is_hard(self) -> bool:
        """Whether decoding attends to one location per word."""
        return self.sampler is not None

    def require_hard_attention(self) -> None:
        """Check that the decoder can attend to sampled locations.

        Raises:
            UserError: it cannot.
        """
        if not self.can_be_hard:
            raise UserError(
                f"model.decoder: {type(self.decoder).__name__} cannot attend to one sampled location; train soft "
                "attention, or use the default decoder"
            )
        self.decoder.require_weighted_sum()

    def encode(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features
    ) -> tuple[Memory, Any]:
        """Return the memory to attend to and the first state, from the mean feature (equations 5 and 6)."""
        values, mask = split_mask(self.encode_images(images))
        values = self.feature_proj(values.to(get_weight(self.output).dtype))  # weights may be in half precision
        values = functional.dropout(values, self.memory_dropout, self.training or self.masks is not None)
        memory = Memory(self.decoder.keys(values), values, mask)
        mean = average_regions(values, mask)
        first = [
            mean.new_zeros(len(mean), 0, self.hidden)
            if make is None
            else self.init_activation(make(mean)).unflatten(-1, (-1, self.hidden))
            for make in (self.first_hidden, self.first_cell)
        ]
        return memory, self.decoder.initial_state(*first, memory)

    def logits(
        self,
        word: Float[Tensor, "*rows embedding"],
        hidden: Float[Tensor, "*rows hidden"],
        context_output: Float[Tensor, "*rows features"] | None = None,
        samples: int = 1,
    ) -> Float[Tensor, "*rows vocab"]:
        """Return L_o tanh(E y + L_h h + L_z z); without deep output L_o h.

        Equation 7 has no tanh; the authors' code has.

        Args:
            hidden: h, or all features of a decoder that does not hand over its context apart.
            context_output: L_z z, if the context is apart.
            samples: rows per caption, which share their dropout.
        """
        return self.output(self.read_out(word, hidden, context_output, samples))

    def read_out(
        self,
        word: Float[Tensor, "*rows embedding"],
        hidden: Float[Tensor, "*rows hidden"],
        context_output: Float[Tensor, "*rows features"] | None = None,
        samples: int = 1,
    ) -> Float[Tensor, "*rows read"]:
        """Return what the output layer reads, see `logits`."""
        if self.deep_hidden is None:
            return self._drop(hidden, samples, "hidden")
        deep = word + self.deep_hidden(self._drop(hidden, samples, "hidden"))
        deep = fast_tanh(deep if context_output is None else deep + context_output)
        return self._drop(deep, samples, "deep")

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows regions"], Any]:
        """Return log-probabilities of the next word after `tokens`, the weights of the sum, and the new state."""
        word = self._embed(tokens)
        if self.can_be_hard:
            state, attended = self.decoder.attend_step(word, state, memory, self.sampler)
            features, weights = state.hidden, attended.weights
            context = None if self.deep_context is None else self.deep_context(attended.gated)
        else:
            features, weights, state = self.decoder.step(word, state, memory)
            context = None
        return self.logits(word, features, context).float().log_softmax(dim=-1), weights, state

    def prepare_decoding(self, memory: Memory, tokens: int) -> tuple[Any, Any]:
        """Return an object with this model's `step`, faster, and its memory; see `layers.prepared.prepare_decoding`."""
        is_usual = has_usual_layers(self, self.embedding, self.output, [self.dropout, self.word_dropout])
        is_usual = is_usual and are_products([self.deep_context]) and self.can_be_hard and can_prepare(self.decoder)
        if not is_usual or self.masks is not None or not stands_for(self, "prepare_decoding", "step", "logits"):
            return self, memory
        readout = None if self.deep_context is None else self.deep_context.weight
        prepared = PreparedCaptioner(self, PreparedDecoder(self.decoder, self.embedding, memory, tokens, readout))
        return prepared, prepared.decoder.memory

    def forward(
        self,
        images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features,
        inputs: Int[Tensor, "batch captions time"],
    ) -> tuple[Float[Tensor, "batch captions time vocab"], Float[Tensor, "batch captions time regions"]]:
        """Teacher forcing with soft attention: logits of each next word given the true ones before it, and alpha.

        An image is encoded, and its features are projected, once for all its captions.
        """
        memory, state = self.encode(images)
        words = self._embed(inputs.flatten(0, 1))
        steps = self._attend(words, repeat_rows(state, inputs.size(1)), memory)
        logits = self.logits(words, steps.hidden, steps.contexts)
        return logits.unflatten(0, inputs.shape[:2]), steps.alphas.unflatten(0, inputs.shape[:2])

    def forward_sampled(
        self,
        images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features,
        inputs: Int[Tensor, "batch captions time"],
        sampler: AttentionSampler,
        num_samples: int = 1,
        with_soft: bool = False,
    ) -> AttentionSamples:
        """Teacher forcing with hard attention: `num_samples` sequences of locations per caption.

        Args:
            with_soft: add one more sample, the last, with soft attention.
        """
        return self.score_sampled(*self.encode(images), inputs, sampler, num_samples, with_soft)

    def score_sampled(
        self,
        memory: Memory,
        state: Any,
        inputs: Int[Tensor, "batch captions time"],
        sampler: AttentionSampler | None,
        num_samples: int = 1,
        with_soft: bool = False,
    ) -> AttentionSamples:
        """Compute `forward_sampled` from a memory and a first state; without a sampler the attention is soft."""
        captions, samples = inputs.size(1), num_samples + with_soft
        state = repeat_rows(state, captions * samples)
        words = self._embed(inputs.flatten(0, 1)).repeat_interleave(samples, dim=0)

        chosen = sampler if sampler is None or not with_soft else AllButLastSampler(sampler, samples)
        steps = self._attend(words, state, memory, chosen)
        logits = self.logits(words, steps.hidden, steps.contexts, samples)
        parts = (logits, steps.alphas, steps.weights, steps.hidden, steps.relaxed, steps.noise)
        *given, relaxed, noise = map_tensors(lambda part: part.unflatten(0, (-1, captions, samples)), parts)
        features = average_regions(memory.values, memory.mask).unsqueeze(1).expand(-1, captions, -1)
        logits, alphas, weights, hidden = given
        return AttentionSamples(logits, alphas, weights, hidden, features, relaxed, noise)

    @contextlib.contextmanager
    def fixed_dropout_masks(self, in_eval: bool = False) -> Iterator[None]:
        """Use one set of dropout masks for all rows and steps inside the block.

        Sampling and scoring then use the same sub-network (variational dropout, Gal and Ghahramani 2016). `encode`
        draws a mask of the features at each call, so call it once.

        Args:
            in_eval: use them in evaluation mode, too, where there is no dropout otherwise.
        """
        if not (self.training or in_eval):
            yield
            return
        sizes = {
            "word": (self.embedding.embedding_dim, self.word_dropout.p),
            "hidden": ((self.output if self.deep_hidden is None else self.deep_hidden).in_features, self.dropout.p),
            "deep": (self.output.in_features, self.dropout.p),
        }
        ones = get_weight(self.output).new_ones
        self.masks = {name: functional.dropout(ones(size), p) for name, (size, p) in sizes.items()}
        try:
            yield
        finally:
            self.masks = None

    def _attend(
        self,
        words: Float[Tensor, "rows time embedding"],
        state: Any,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> AttendedSteps:
        """Compute all steps; the contexts are multiplied with L_z, or None if they are not apart."""
        if self.can_be_hard:
            deep = self.deep_context
            readout = None if deep is None or not are_products([deep]) else deep.weight
            steps: AttendedSteps = self.decoder.attend_steps(words, state, memory, sampler, readout)
            return steps if deep is None or readout is not None else steps._replace(contexts=deep(steps.contexts))
        if sampler is not None:
            self.require_hard_attention()
        features, alphas, state = self.decoder(words, state, memory)
        return AttendedSteps(features, None, alphas, alphas, state)

    def _embed(self, tokens: Int[Tensor, " rows *time"]) -> Float[Tensor, "rows *time embedding"]:
        vectors = self.embedding(tokens)
        return self.word_dropout(vectors) if self.masks is None else vectors * self.masks["word"]

    def _drop(self, values: Float[Tensor, "*rows dim"], samples: int, layer: str) -> Float[Tensor, "*rows dim"]:
        """Apply dropout with the same mask to all samples of a caption, because they are compared with each other."""
        if self.masks is not None:
            return values * self.masks[layer]
        return drop_alike(self.dropout, values, samples)


def _make_perceptron(inputs: int, outputs: int, layers: int) -> nn.Module:
    """Return a linear layer, or two with tanh between; the caller applies tanh to the output."""
    if layers not in (1, 2):
        raise UserError(f"model.init_state_layers={layers}: expected 1 or 2")
    if layers == 1:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh(), nn.Linear(outputs, outputs))
