"""A captioner with a Transformer decoder (Vaswani et al. 2017) that attends to the features of an image.

attendgen train experiment=flickr8k_transformer
"""

from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from attendgen.layers.encoder import Features, ImageEncoder, split_mask
from attendgen.layers.half_precision import get_weight
from attendgen.layers.lstm import tie_weights
from attendgen.layers.output import OutputLayer
from attendgen.layers.state import repeat_rows
from attendgen.layers.transformer import (
    TokenEmbedding,
    TransformerDecoder,
    TransformerEncoder,
    TransformerMemory,
    TransformerState,
    count_tokens,
)
from attendgen.models.encoders.base import ImageModel


class TransformerCaptioner(ImageModel):
    """Grid encoder, Transformer decoder; the attention is that of its last layer, averaged over the heads.

    Shapes: `batch` images of `regions` features of `dim` numbers; `captions` per image, of `time` words; `rows` = batch
    x hypotheses or captions.

    Args:
        vocab_size: size of the vocabulary.
        encoder: turns pixels into features.
        dim, heads, layers: size of the vectors, number of heads, number of decoder layers.
        region_layers: layers of self-attention over the regions, without positions, before the decoder.
        feed_forward: size of the feed-forward networks; 4 x dim unless given.
        dropout: on the output of each sublayer, and within the feed-forward networks.
        word_dropout, memory_dropout: on word embeddings, and on features.
        learned_positions: number of learned positions, the longest caption; 0 has rotary positions (Su et al. 2021).
        tied: the output layer shares the weights of the word embedding (Press and Wolf 2017).

    Raises:
        UserError: the heads have no equal sizes, or of odd size with rotary positions; or the decoder has no layer.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder: ImageEncoder,
        dim: int = 256,
        heads: int = 4,
        layers: int = 2,
        region_layers: int = 0,
        feed_forward: int | None = None,
        dropout: float = 0.1,
        word_dropout: float = 0.1,
        memory_dropout: float = 0.0,
        learned_positions: int = 0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        feed_forward = feed_forward or 4 * dim
        self.encoder = encoder
        self.feature_proj = nn.Linear(encoder.dim, dim)
        self.regions = TransformerEncoder(dim, heads, region_layers, feed_forward, dropout, rotary=False)
        self.embedding = TokenEmbedding(vocab_size, dim, learned_positions)
        self.decoder = TransformerDecoder(dim, heads, layers, feed_forward, dropout, rotary=not learned_positions)
        self.output = OutputLayer(dim, vocab_size)
        if tied:
            tie_weights(self.output, self.embedding)
        self.word_dropout = nn.Dropout(word_dropout)
        self.memory_dropout = nn.Dropout(memory_dropout)

    def encode(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features
    ) -> tuple[TransformerMemory, TransformerState]:
        """Return the keys and values to attend to, and the decoder's first state."""
        features, mask = split_mask(self.encode_images(images))
        features = features.to(get_weight(self.output).dtype)  # weights may be in half precision
        values = self.regions(self.feature_proj(self.memory_dropout(features)), mask)
        return self.decoder.project(values, mask), self.decoder.initial_state(len(values))

    def read(
        self, inputs: Int[Tensor, "rows time"], state: TransformerState, memory: TransformerMemory
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time regions"], TransformerState]:
        """Return logits after each of `inputs`, the attention weights, and the new state."""
        vectors = self.word_dropout(self.embedding(inputs, count_tokens(state)))
        features, alphas, state = self.decoder(vectors, state, memory)
        return self.output(features), alphas, state

    def step(
        self, tokens: Int[Tensor, " rows"], state: TransformerState, memory: TransformerMemory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows regions"], TransformerState]:
        """Return log-probabilities of the next word after `tokens`, the attention weights, and the new state."""
        logits, alphas, state = self.read(tokens.unsqueeze(1), state, memory)
        return logits[:, 0].float().log_softmax(dim=-1), alphas[:, 0], state

    def forward(
        self,
        images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features,
        inputs: Int[Tensor, "batch captions time"],
    ) -> tuple[Float[Tensor, "batch captions time vocab"], Float[Tensor, "batch captions time regions"]]:
        """Teacher forcing: return logits of each next word given the true ones before it, and the attention.

        An image is encoded, and its keys and values are projected, once for all its captions.
        """
        memory, state = self.encode(images)
        logits, alphas, _ = self.read(inputs.flatten(0, 1), repeat_rows(state, inputs.size(1)), memory)
        return logits.unflatten(0, inputs.shape[:2]), alphas.unflatten(0, inputs.shape[:2])
