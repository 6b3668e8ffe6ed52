"""A Transformer for sequence-to-sequence tasks (Vaswani et al. 2017).

attendgen train experiment=multi30k_fr_en_transformer
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.lstm import tie_weights
from attendgen.layers.output import OutputLayer
from attendgen.layers.transformer import (
    TokenEmbedding,
    TransformerDecoder,
    TransformerEncoder,
    TransformerMemory,
    TransformerState,
    count_tokens,
)
from attendgen.utils.special_tokens import PAD


class TransformerSeq2Seq(nn.Module):
    """Transformer encoder and decoder; the attention is that of the last decoder layer, averaged over its heads.

    Shapes: `batch` sources of `source` tokens; `rows` = batch x hypotheses.

    Args:
        source_vocab_size, target_vocab_size: sizes of the vocabularies.
        dim, heads: size of the vectors, and number of heads.
        encoder_layers, decoder_layers: numbers of layers.
        feed_forward: size of the feed-forward networks; 4 x dim unless given.
        dropout: on embeddings, on the output of each sublayer, and within the feed-forward networks.
        learned_positions: number of learned positions, the longest text; 0 has rotary positions (Su et al. 2021).
        tied: the output layer shares the weights of the target embedding (Press and Wolf 2017).

    Raises:
        UserError: the heads have no equal sizes, or of odd size with rotary positions; or the decoder has no layer.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        dim: int = 256,
        heads: int = 4,
        encoder_layers: int = 3,
        decoder_layers: int = 3,
        feed_forward: int | None = None,
        dropout: float = 0.1,
        learned_positions: int = 0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        feed_forward, rotary = feed_forward or 4 * dim, not learned_positions
        self.source_embedding = TokenEmbedding(source_vocab_size, dim, learned_positions)
        self.target_embedding = TokenEmbedding(target_vocab_size, dim, learned_positions)
        self.encoder = TransformerEncoder(dim, heads, encoder_layers, feed_forward, dropout, rotary)
        self.decoder = TransformerDecoder(dim, heads, decoder_layers, feed_forward, dropout, rotary)
        self.output = OutputLayer(dim, target_vocab_size)
        if tied:
            tie_weights(self.output, self.target_embedding)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Int[Tensor, "batch source"]) -> tuple[TransformerMemory, TransformerState]:
        """Encode sources: return the keys and values to attend to, and the decoder's first state."""
        mask = source != PAD
        values = self.encoder(self.dropout(self.source_embedding(source)), mask)
        return self.decoder.project(values, mask), self.decoder.initial_state(len(source))

    def read(
        self, inputs: Int[Tensor, "rows time"], state: TransformerState, memory: TransformerMemory
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time source"], TransformerState]:
        """Return logits after each of `inputs`, the attention weights, and the new state."""
        vectors = self.dropout(self.target_embedding(inputs, count_tokens(state)))
        features, alphas, state = self.decoder(vectors, state, memory)
        return self.output(features), alphas, state

    def step(
        self, tokens: Int[Tensor, " rows"], state: TransformerState, memory: TransformerMemory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], TransformerState]:
        """Return log-probabilities of the next token after `tokens`, the attention weights, and the new state."""
        logits, alphas, state = self.read(tokens.unsqueeze(1), state, memory)
        return logits[:, 0].float().log_softmax(dim=-1), alphas[:, 0], state

    def forward(
        self, source: Int[Tensor, "batch source"], inputs: Int[Tensor, "batch target"]
    ) -> tuple[Float[Tensor, "batch target vocab"], Float[Tensor, "batch target source"]]:
        """Teacher forcing: return logits of each next token given the true ones before it, and the attention."""
        memory, state = self.encode(source)
        logits, alphas, _ = self.read(inputs, state, memory)
        return logits, alphas
