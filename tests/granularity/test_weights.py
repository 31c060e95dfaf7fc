"""Single weights as cells."""

import torch

from mint_cli.granularity.weights import weights
from mint_cli.network.cells import masks_of, rectangles, sizes
from mint_cli.protocol import Layer


def test_every_weight_is_a_cell_of_its_own_at_its_own_place():
    cells = weights(None, {"a": Layer("a", "Conv2d", (4, 3, 2, 2), 9, 1)})
    own, values = cells["a"], {"a.weight": torch.zeros(4, 3, 2, 2)}
    assert own.shape == (4, 3, 2, 2) and (sizes(own, values, {"a.weight"}) == 1).all()
    kept = {"a": torch.rand(4, 3, 2, 2) < 0.5}
    assert torch.equal(masks_of(cells, kept)["a.weight"], kept["a"])


def test_as_pairs_of_groups_they_are_every_output_with_every_column_of_the_flat_weight():
    own = weights(None, {"a": Layer("a", "Conv2d", (4, 3, 2, 2), 9, 1)})["a"]
    child, parent = rectangles(own, "a.weight", (4, 3, 2, 2))
    assert child.tolist() == list(range(4)) and parent.tolist() == list(range(12))
