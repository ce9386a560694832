"""The training run that goes through the book: a small language model, a text, batches that everybody agrees on.

Each lesson makes this same run bigger, faster or smaller, so that you always know what changed.

>>> from aboard import lm
>>> model = lm.Transformer(lm.TINY, seed=0)
>>> inputs, targets = lm.batch(step=0, size=8, length=64)
>>> loss = model.loss(inputs, targets)
"""

from aboard.lm.model import TINY, Config, Transformer
from aboard.lm.text import VOCABULARY, batch, corpus

__all__ = ["TINY", "VOCABULARY", "Config", "Transformer", "batch", "corpus"]
