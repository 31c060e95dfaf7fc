"""Each layer by itself, against least squares written out in full."""

import numpy as np
import torch
from torch import nn

from mint_cli.data import images as im
from mint_cli.compensation.layer import layer
from mint_cli.network.layers import passage


def test_each_layer_is_the_least_squares_fit_of_its_own_dense_output(model, masks, noise, settings):
    everywhere = settings | {"measured": 0.0, "joint": 0.0, "calibration_images": 200, "positions": 64, "ridge": 1e-12}
    plain = im.Images(noise.pixels, noise.labels)
    _, changed = layer(model, masks, plain, np.random.default_rng(0), **everywhere)
    with torch.no_grad():
        seen = passage(model, "inner", im.plain(plain, torch.arange(200)))
    patches = nn.functional.unfold(seen.entering, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1)
    targets = seen.leaving.flatten(2).transpose(1, 2).flatten(0, 1)
    kept = masks["inner"][0].repeat_interleave(9)
    design = torch.cat([patches[:, kept], torch.ones(len(patches), 1)], 1).double()
    wanted = torch.linalg.lstsq(design, targets[:, 0].double()).solution.float()
    found = changed["inner.weight"][0].flatten()
    torch.testing.assert_close(found[kept], wanted[:-1], rtol=1e-3, atol=1e-4)
    assert (found[~kept] == 0.0).all()
    torch.testing.assert_close(model.inner_norm.running_mean[0] - changed["inner_norm.running_mean"][0], wanted[-1], rtol=1e-3, atol=1e-4)
