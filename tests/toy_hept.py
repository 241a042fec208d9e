"""A stand-in for a trained HEPTv2 network: tracks are bins of azimuth, known beforehand."""

import math

import torch

from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_decoder import Decoded, Level
from trackbench.trackers.layers.hept_encoder import Encoded

N_BINS = 24
DOUBT = -8.0  # log p_track of odd queries, nearly: the score of their hits is half of it


def bins(phi, n_bins=N_BINS):
    """Bin of azimuth. phi: tensor [rad]."""
    return ((phi + math.pi) / (2 * math.pi) * n_bins).long().clamp(0, n_bins - 1)


class BinNetwork(torch.nn.Module):
    """Unit vectors of the embedding are near that of the bin; ``parts`` queries share a bin, each a part of it.

    Even queries are tracks for sure, odd ones are doubtful (``DOUBT``).
    """

    def __init__(self, queries="seeded", noise=0.1, parts=1):
        super().__init__()
        self.config = HeptConfig(inputs="geometry", queries=queries, sectors=1, n_queries=200)
        self.decoder = None
        self.noise, self.n_queries = noise, N_BINS * parts

    def forward(self, batch, decode=True):
        phi = batch.angles[..., 1]
        points = torch.nn.functional.one_hot(bins(phi), N_BINS).float()
        spread = torch.sin(torch.arange(points.numel()).view(points.shape) * batch.angles.sum(-1, keepdim=True))
        embedding = torch.nn.functional.normalize(points + self.noise * spread, dim=-1)
        hits = torch.nn.functional.one_hot(bins(phi, self.n_queries), self.n_queries).float()
        encoded = Encoded(hits, torch.zeros(phi.shape), embedding)
        if not decode or self.config.queries == "none":
            return encoded, None
        queries = 20.0 * torch.eye(self.n_queries).expand(len(phi), -1, -1)
        track = torch.where(torch.arange(self.n_queries) % 2 == 0, 8.0, DOUBT)
        classes = torch.stack((track, torch.zeros(self.n_queries)), 1).expand(len(phi), -1, -1)
        places = torch.where(batch.valid, torch.arange(phi.shape[1]), -1)
        valid = torch.ones(queries.shape[:2], dtype=torch.bool)
        level, event = Level(classes, queries), torch.arange(len(phi))
        return encoded, Decoded((level,), hits, torch.tensor(-10.0), valid, places, event, valid.long() - 2)


def bin_tracker(queries="seeded", noise=0.1, parts=1, **settings):
    """The tracker with the stand-in as its network."""
    tracker = build_tracker("heptv2", {"checkpoint": "toy", "device": "cpu", **settings})
    tracker.__dict__["network"] = BinNetwork(queries, noise, parts)
    return tracker
