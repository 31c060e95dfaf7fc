"""No compensation is the identity."""

import numpy as np

from mint_cli.compensation.none import none


def test_masks_come_back_and_no_tensor_changes(model, masks, noise):
    assert none(model, masks, noise, np.random.default_rng(0)) == (masks, {})
