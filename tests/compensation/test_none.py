"""No compensation is the identity."""

import numpy as np

from mint_cli.compensation.none import none


def test_the_choice_comes_back_and_no_tensor_changes(model, cells, kept, nothing, noise):
    found, changed = none(model, cells, kept, nothing, noise, np.random.default_rng(0))
    assert found is kept and changed == {}
