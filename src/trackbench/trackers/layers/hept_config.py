"""Settings of the HEPTv2 network. No torch here: checking a configuration reads this module."""

from dataclasses import dataclass

from trackbench.errors import require

INPUTS = ("published", "geometry")
SERIALIZATIONS = ("lsh", "zorder", "hilbert", "phi")
QUERIES = ("none", "learned", "seeded")
POSITIVE = ("width", "heads", "ffn", "layers", "position_hidden", "embedding", "embedding_hidden", "rounds", "block")


@dataclass(frozen=True)
class HeptConfig:
    """Encoder, heads and decoder. The defaults are the published network, of 2,239,619 weights.

    inputs: "published" = 15 features of position and cells and 6 coordinates, for events with cell features;
        "geometry" = 50 features of position and layer alone, which are the coordinates too
    width, heads, ffn, layers: of the encoder; ffn: hidden width of SwiGLU
    position_hidden: hidden width of the position MLP of each layer
    embedding: dimension of the unit-length embedding; embedding_hidden, embedding_layers: of its MLP, >= 1 layers
    serialization: order of the hits before they are cut into blocks: "lsh" (OR-AND E2LSH in eta and phi), "zorder",
        "hilbert" or "phi"
    rounds: orders per layer and head whose blocks are combined, >= 1 (only "lsh" has different ones)
    block: hits of a block, within which all hits attend to each other
    regions: number R of eta-phi cells of an order ("lsh"), 0 = 1.7 N / block
    sectors: phi sectors of equal count the decoder works in, >= 1; overlap: as many more, shifted by half a sector
    queries: "learned" = bank of ``n_queries`` vectors, the same in all sectors; "seeded" = hits chosen by density in
        the embedding, at most ``n_queries``, with residual masks; "none" = no decoder
    seed_similarity: cosine above which hits are neighbours of a seed and suppressed by it, in (0, 1)
    seed_neighbours: hits within it, itself included, that a seed needs
    decoder_layers: layers of cross- and self-attention; every one and the start have mask and class heads
    masked_attention: a query sees only hits its previous mask has
    """

    inputs: str = "published"
    width: int = 128
    heads: int = 8
    ffn: int = 128
    layers: int = 4
    position_hidden: int = 512
    embedding: int = 128
    embedding_hidden: int = 256
    embedding_layers: int = 5
    serialization: str = "lsh"
    rounds: int = 3
    block: int = 1024
    regions: int = 100
    sectors: int = 3
    overlap: bool = False
    queries: str = "learned"
    n_queries: int = 3000
    seed_similarity: float = 0.8
    seed_neighbours: int = 3
    decoder_layers: int = 2
    masked_attention: bool = False

    def __post_init__(self):
        require("network.inputs", self.inputs, self.inputs in INPUTS, "one of " + ", ".join(INPUTS))
        names = ", ".join(SERIALIZATIONS)
        require("network.serialization", self.serialization, self.serialization in SERIALIZATIONS, f"one of {names}")
        require("network.queries", self.queries, self.queries in QUERIES, "one of " + ", ".join(QUERIES))
        for name in (*POSITIVE, "embedding_layers", "sectors", "n_queries", "seed_neighbours", "decoder_layers"):
            require(f"network.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        require("network.regions", self.regions, self.regions >= 0, ">= 0")
        require("network.width", self.width, self.width % self.heads == 0, f"a multiple of heads = {self.heads}")
        require("network.seed_similarity", self.seed_similarity, 0 < self.seed_similarity < 1, "in (0, 1)")
