"""A character language model that reads forwards, as far back as its state remembers.

attendgen train experiment=novels_lstm
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attendgen.layers.half_precision import get_weight
from attendgen.layers.lstm import read_lstm, step_lstm, tie_weights
from attendgen.layers.ngram_embedding import NGramEmbedding
from attendgen.layers.output import OutputLayer
from attendgen.layers.plain import use_plain_autograd
from attendgen.layers.sliding_attention import SlidingAttention, empty_window
from attendgen.layers.state import AttentionWindow, EmptyMemory, LanguageModelState, LSTMState
from attendgen.models.lm.common import StatefulLanguageModel
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD


class LSTMLanguageModel(StatefulLanguageModel):
    """LSTM over all characters so far, optionally with an attention head over its own last states.

    Shapes: `rows` texts read side by side, `time` characters of each.

    Args:
        vocab_size: size of the vocabulary.
        embedding_dim, hidden, layers: sizes of the character embeddings and of the LSTM.
        ngrams: length of the longest n-grams whose embeddings are added to the characters'; below 2 there are none.
        ngram_rows, ngram_dropout: rows of each length's table, and the probability of dropping an n-gram in training.
        attention_window: number of its own states that the attention head sees; 0 turns it off.
        attention_dim: size of the head's queries, keys and values.
        dropout: on embeddings, between layers, and on the output layer's input.
        tied: the output layer shares the weights of the embedding (Press and Wolf 2017); a layer reduces the features
            to their size.
        fast: use the fast paths; false follows the equations, see `attendgen.layers.use_plain_autograd`.

    Raises:
        UserError: n-grams have a table without rows.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 128,
        hidden: int = 640,
        layers: int = 1,
        ngrams: int = 0,
        ngram_rows: int = 16_384,
        ngram_dropout: float = 0.0,
        attention_window: int = 0,
        attention_dim: int = 128,
        dropout: float = 0.0,
        tied: bool = False,
        fast: bool = True,
    ) -> None:
        super().__init__()
        if ngrams > 1 and ngram_rows < 1:
            raise UserError(f"model.ngram_rows={ngram_rows}: expected 1 or more")
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.ngrams = NGramEmbedding(embedding_dim, ngrams, ngram_rows, ngram_dropout) if ngrams > 1 else None
        self.attention = SlidingAttention(hidden, attention_dim, attention_window) if attention_window else None
        self.readout = nn.Linear(hidden, embedding_dim) if tied else None
        self.output = OutputLayer(embedding_dim if tied else hidden, vocab_size)
        if tied:
            tie_weights(self.output, self.embedding)
        self.dropout = nn.Dropout(dropout)
        if not fast:
            use_plain_autograd(self)

    def initial_state(self, batch: int) -> LanguageModelState:
        """Return the state before anything is read: zeros."""
        zero = get_weight(self.output).new_zeros(batch, self.lstm.num_layers, self.lstm.hidden_size)
        window = empty_window(zero) if self.attention is None else self.attention.initial_window(batch)
        recent = zero.new_full((batch, self.ngrams.history if self.ngrams else 0), PAD, dtype=torch.long)
        return LanguageModelState(LSTMState(zero, zero), window, recent)

    def embed(
        self, inputs: Int[Tensor, "rows time"], recent: Int[Tensor, "rows recent"]
    ) -> tuple[Float[Tensor, "rows time embedding"], Int[Tensor, "rows recent"]]:
        """Return embeddings of the inputs and of the n-grams that end at them, and the tokens before the next input."""
        vectors = self.embedding(inputs)
        if self.ngrams is None:
            return vectors, recent
        more, recent = self.ngrams(inputs, recent)
        return vectors + more, recent

    def read(
        self, inputs: Int[Tensor, "rows time"], state: LanguageModelState, mask: Bool[Tensor, "rows time"] | None = None
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time window"], LanguageModelState]:
        """Return logits after each of `inputs`, the weights of the states before it, and the new state."""
        vectors, recent = self.embed(inputs, state.recent)
        hidden, lstm = read_lstm(self.lstm, self.dropout(vectors), state.lstm, mask)
        logits, alphas, window = self.predict(hidden, state.window, mask)
        return logits, alphas, LanguageModelState(lstm, window, recent)

    def predict(
        self,
        hidden: Float[Tensor, "rows time hidden"],
        window: AttentionWindow,
        mask: Bool[Tensor, "rows time"] | None = None,
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time window"], AttentionWindow]:
        """Return logits from the LSTM's states, their attention weights, and the window after them."""
        alphas = hidden.new_zeros(*hidden.shape[:2], 0)
        if self.attention is not None:
            context, alphas, window = self.attention(hidden, window, mask)
            hidden = hidden + context
        features = self.dropout(hidden)
        if self.readout is not None:
            features = torch.tanh(self.readout(features))
        return self.output(features), alphas, window

    def step(
        self, tokens: Int[Tensor, " rows"], state: LanguageModelState, memory: EmptyMemory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows window"], LanguageModelState]:
        """Return log-probabilities of the next character after `tokens`, the attention weights, and the new state."""
        vectors, recent = self.embed(tokens.unsqueeze(1), state.recent)
        lstm = step_lstm(self.lstm, self.dropout(vectors[:, 0]), state.lstm)
        logits, alphas, window = self.predict(lstm.hidden[:, -1:], state.window)
        log_probs = logits[:, 0].float().log_softmax(dim=-1)
        return log_probs, alphas[:, 0], LanguageModelState(lstm, window, recent)
