import numpy as np
import torch

from mint_cli.criterion.random import random
from mint_cli.model.mlp import mlp


def test_every_block_gets_a_number_of_its_own_and_the_seed_decides(images):
    model = mlp((1, 6, 6), 3, hidden=[20, 10], dropout=0.0)
    first, again, other = (
        random(model, ["fc1", "fc2"], images, np.random.default_rng(s), child_groups=5, parent_groups=4)["fc2"] for s in (0, 0, 1)
    )
    assert first.score.shape == (5, 4) and len(first.score.unique()) == 20
    assert torch.equal(first.score, again.score) and not torch.equal(first.score, other.score)
