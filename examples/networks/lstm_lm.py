"""A word language model of two LSTM layers, the "medium" one of Zaremba et al. 2014 (arXiv:1409.2329): 650 units.

Parameters are named as in PyTorch's example ``word_language_model``, and its trained weights load as they are. The
embedding is a look-up, so it stays digital; the LSTM and the decoder lie on tiles. Every window begins with zero state.
"""

from collections.abc import Mapping

import torch
from torch import nn

WORDS, UNITS, LAYERS = 10_000, 650, 2


class LstmLanguageModel(nn.Module):
    """Words (N, time), int64 -> scores of the next word (N, time, words)."""

    def __init__(self, words: int = WORDS, units: int = UNITS, layers: int = LAYERS) -> None:
        super().__init__()
        self.words = words
        self.dropout = nn.Dropout(0.5)
        self.encoder = nn.Embedding(words, units)
        self.rnn = nn.LSTM(units, units, layers, dropout=0.5 if layers > 1 else 0.0, batch_first=True)
        self.decoder = nn.Linear(units, words)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.05, 0.05)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.rnn(self.dropout(self.encoder(words)))
        return self.decoder(self.dropout(hidden))


def for_weights(weights: Mapping[str, torch.Tensor]) -> LstmLanguageModel:
    """The network of the size these weights have."""
    words, units = weights["encoder.weight"].shape
    return LstmLanguageModel(words, units, sum(name.startswith("rnn.weight_hh_l") for name in weights))
