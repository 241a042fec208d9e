"""Train weights of learned trackers for the contract test on toy events: ``train_toy_weights.py [NAME ...]``.

Every tracker with a ``checkpoint`` has a file ``weights/NAME.pt`` here; each takes half a minute of CPU time. They
show that the trackers work, not how well: the toy helices are as simple as events get. Train them again when the
network or the format of its weights changes.
"""

import sys

import numpy as np
import torch
from toy_weights import FOLDER
from toys import toy_event

from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.training.config import LossConfig
from trackbench.training.hept_config import HeptLossConfig
from trackbench.training.hept_v1_config import HeptV1LossConfig
from trackbench.training.tasks import make_task

ENCODER = {"inputs": "helix", "layers": 2, "ffn": 64, "norm": "pre", "activation": "gelu", "dropout": 0.0}
LOSS = LossConfig(regression="smooth_l1", n_phi=24, n_theta=20, n_p=1)
HEPT = HeptConfig(
    **{"inputs": "geometry", "width": 32, "heads": 4, "ffn": 32, "layers": 2, "position_hidden": 32},
    **{"embedding": 16, "embedding_hidden": 32, "embedding_layers": 2, "rounds": 2, "block": 64, "regions": 0},
    **{"sectors": 1, "queries": "seeded", "n_queries": 150, "decoder_layers": 1},
)
HEPT_LOSS = HeptLossConfig(class_weight=1.0, hit_weight=0.5, nce_weight=4.0, negatives=0, decoder_pt_min=0.0)
HEPT_V1 = HeptV1Config(
    **{"inputs": "geometry", "width": 16, "heads": 4, "layers": 2, "rounds": 2, "block": 64, "regions": 0},
    **{"kernel_terms": 4, "output_hidden": 32, "output_layers": 3, "dropout": 0.0},
)
# tracker -> kind of its weights, network and loss
MODELS = {
    "encreg": ("encreg", NetworkConfig(**ENCODER, targets="q_over_pt"), LOSS),
    "enccla": ("enccla", NetworkConfig(**ENCODER, targets="none", classes=LOSS.n_classes), LOSS),
    "latent": ("contrastive", NetworkConfig(**ENCODER, targets="none", embedding=8), LOSS),
    "heptv2": ("heptv2", HEPT, HEPT_LOSS),
    "hept": ("hept", HEPT_V1, HeptV1LossConfig(flip=True, mirror=True)),
}
STEPS, EVENTS_PER_STEP = 200, 4


def events_of_step(step):
    """Toy events of one step, half of them soft, half of them stiff; never those of the contract test."""
    numbers = 1000 + EVENTS_PER_STEP * step + np.arange(EVENTS_PER_STEP)
    return [toy_event(60, 40, int(number), pt_min=0.5 + 1.5 * (number % 2), event_id=number) for number in numbers]


def train(kind, config, loss_config=LOSS, steps=STEPS, seed=0):
    """Train on fresh toy events in every step. Returns task, network and the mean loss of the last tenth."""
    torch.manual_seed(seed)
    task = make_task(kind, config, loss_config)
    task.fit(event for step in range(10) for event in events_of_step(step))
    network = task.build()
    optimiser = torch.optim.Adam(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    losses = []
    for step in range(steps):
        loss = sum(task.losses(network, task.collate(events_of_step(step), None)).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return task, network, float(np.mean(losses[-(steps // 10) :]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        task, network, loss = train(*MODELS[name])
        task.save(FOLDER / f"{name}.pt", network, {"label": "toy", "steps": STEPS, "loss": round(loss, 4)})
