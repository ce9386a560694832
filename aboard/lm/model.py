"""A decoder-only transformer as models are built today, small enough for a laptop.

RMSNorm before each block, rotary positions, grouped-query attention, a SwiGLU feed-forward, and one matrix for both
embeddings. Sizes are in `Config`; nothing else is configured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Sizes. `width` must be divisible by `heads`, and `heads` by `kv_heads`; a head's width must be even."""

    vocabulary: int = 128
    width: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 176  # of the feed-forward: 8/3 of the width, rounded up to a multiple of 16

    @property
    def head_width(self) -> int:
        return self.width // self.heads


TINY = Config()


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary(length: int, head_width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """(cosines, sines), each [length, head_width / 2], for `rotate` (Su et al. 2021, arXiv:2104.09864)."""
    frequencies = base ** (-torch.arange(0, head_width, 2) / head_width)
    angles = torch.outer(torch.arange(length), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair (x[…, j], x[…, j + d/2]) of `x` [batch, heads, length, d] by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)
    return turned.to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention in which `heads / kv_heads` query heads share a key and a value head (arXiv:2305.13245)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.query = nn.Linear(config.width, config.heads * config.head_width, bias=False)
        self.key = nn.Linear(config.width, config.kv_heads * config.head_width, bias=False)
        self.value = nn.Linear(config.width, config.kv_heads * config.head_width, bias=False)
        self.out = nn.Linear(config.heads * config.head_width, config.width, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = (
            project(x).view(batch, length, -1, self.config.head_width).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        query, key = rotate(query, cosines, sines), rotate(key, cosines, sines)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """down(silu(gate(x)) · up(x)) (SwiGLU: Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each on a normalised copy and added to the stream."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention_norm, self.attention = RMSNorm(config.width), Attention(config)
        self.feed_forward_norm, self.feed_forward = RMSNorm(config.width), FeedForward(config)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cosines, sines)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Tokens [batch, length] int64 → logits [batch, length, vocabulary].

    `seed` fixes the start: two models of one config and seed are equal, on whatever rank they are made.
    """

    def __init__(self, config: Config = TINY, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.unembed.weight = self.embed.weight
        self._start(seed)

    @torch.no_grad()
    def _start(self, seed: int) -> None:
        """Normal weights of 0.02; those that write into the stream smaller, as there are 2 · layers of them (GPT-2).

        Drawn on the processor, so that a model on a GPU starts with the same numbers.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2 or parameter.is_meta:
                continue
            writes = name.endswith(("out.weight", "down.weight"))
            scale = 0.02 / math.sqrt(2 * self.config.layers) if writes else 0.02
            parameter.copy_(
                torch.empty(parameter.shape, device="cpu").normal_(0.0, scale, generator=generator)
            )

    def forward(self, tokens: Tensor) -> Tensor:
        cosines, sines = (t.to(tokens.device) for t in rotary(tokens.shape[1], self.config.head_width))
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, cosines, sines)
        return self.unembed(self.norm(x))

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats over all tokens of `inputs` and `targets`, each [batch, length]."""
        return F.cross_entropy(self(inputs).flatten(0, 1).float(), targets.flatten())
