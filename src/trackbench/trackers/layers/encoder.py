"""The transformer encoder of learned trackers: every hit attends to the hits its mask allows.

Source: Vaswani et al., arXiv:1706.03762, in the form of ``torch.nn.TransformerEncoder``, to which it is equal with the
same weights (a test compares them). Differs from it in: attention goes through ``attention.attention``, whose backends
know masks that torch's layer does not; there is no dropout of attention weights, which these backends lack, only of
the outputs of attention and feed-forward network; every layer starts from weights of its own.
"""

from torch import Tensor, nn

from trackbench.trackers.layers.attention import attention
from trackbench.trackers.layers.masks import AttentionMask
from trackbench.trackers.layers.network_config import NetworkConfig


class MultiHeadAttention(nn.Module):
    """Multi-head self-attention. width: features of a hit; heads: number of heads, divides width."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # As torch.nn.MultiheadAttention starts.
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: AttentionMask, backend: str, bias: Tensor | None = None) -> Tensor:
        """Attend. x: (B, S, width); bias: (B, H, S, S), added to the logits. Returns (B, S, width)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, S, E)
        return self.out(attention(q, k, v, mask, backend, bias=bias).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and feed-forward network, each added to its input, with layer norm after ("post") or before ("pre")."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.norm_first = config.norm == "pre"
        self.attention = MultiHeadAttention(config.width, config.heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, config.ffn),
            nn.GELU() if config.activation == "gelu" else nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.ffn, config.width),
        )
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: AttentionMask, backend: str, bias: Tensor | None = None) -> Tensor:
        """One layer. x: (B, S, width); bias: (B, H, S, S), added to the logits. Returns (B, S, width)."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.norm1(x), mask, backend, bias))
            return x + self.dropout(self.feed_forward(self.norm2(x)))
        x = self.norm1(x + self.dropout(self.attention(x, mask, backend, bias)))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class Encoder(nn.Module):
    """A stack of encoder layers; after layers with norm first, one more layer norm.

    config: width, heads, ffn, dropout, norm and activation of the layers
    layers: how many
    """

    def __init__(self, config: NetworkConfig, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(layers))
        self.norm = nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: AttentionMask, backend: str = "auto", bias: Tensor | None = None) -> Tensor:
        """Encode hits.

        x: (B, S, width); mask: of the same batch; bias: (B, H, S, S), added to the logits of every layer
        Returns (B, S, width).
        """
        for layer in self.layers:
            x = layer(x, mask, backend, bias)
        return self.norm(x)
