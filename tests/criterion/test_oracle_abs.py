"""Sizes of measured changes of the loss."""

import numpy as np
import torch
from channels import NETWORKS, filter_cells

from mint_cli.criterion.oracle_abs import oracle_abs
from mint_cli.criterion.oracle_loss import oracle_loss
from mint_cli.protocol import Images


def test_it_is_the_size_of_what_the_other_oracle_measures_whole_and_in_halves():
    model = NETWORKS["sequential"]()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (30, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images, cells = Images(pixels, torch.arange(30) % 3), filter_cells(model)
    settings = {"samples_per_class": 10, "batch_size": 15, "normalise": False}
    size, signed = (
        criterion(model, cells, images, np.random.default_rng(0), **settings)
        for criterion in (oracle_abs, oracle_loss)
    )
    for site in cells:
        assert (signed[site].score < 0).any() or site == "last"
        torch.testing.assert_close(size[site].score, signed[site].score.abs())
        for one, other in zip(size[site].halves, signed[site].halves, strict=True):
            torch.testing.assert_close(one, other.abs())
