"""DenseNet-BC: the published count, what its units read, what is refused."""

import pytest
import torch
from networks import seeded

from mint_cli.errors import DataError, SettingError
from mint_cli.model.densenet import densenet
from mint_cli.network.layers import weight_counts, weighted_layers

BC100 = {"depth": 100, "growth": 12, "reduction": 0.5}


def test_it_has_the_published_number_of_parameters_and_layers():
    model = densenet((3, 32, 32), 10, **BC100)
    assert sum(p.numel() for p in model.parameters()) == 769_162
    assert len(weighted_layers(model)) == 100
    counts = weight_counts(model)
    assert (counts["trans1.conv1.weight"], counts["fc.weight"]) == (216 * 108, 342 * 10)


def test_a_wider_one_has_the_published_number_too():
    """Depth 190, growth 40: 25.6 million in Huang et al., table 2."""
    with torch.device("meta"):
        model = densenet((3, 32, 32), 10, depth=190, growth=40, reduction=0.5)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 25.6


def test_without_reduction_a_transition_keeps_all_channels():
    model = densenet((3, 32, 32), 10, depth=10, growth=4, reduction=1.0)
    assert model.trans1.conv1.weight.shape[:2] == (12, 12)


def test_a_unit_reads_all_before_it_in_its_block_and_puts_its_own_behind():
    model = seeded(lambda: densenet((3, 16, 16), 5, depth=16, growth=4, reduction=0.5))
    seen = {}
    for i, unit in enumerate(model.block1.layer):
        unit.register_forward_hook(lambda m, x, y, i=i: seen.update({i: (x[0], y)}))
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 16, 16))
    assert logits.shape == (2, 5)
    assert torch.equal(seen[1][0], seen[0][1]) and torch.equal(seen[1][1][:, :12], seen[1][0])
    assert [y.shape[1] for _, y in seen.values()] == [12, 16]


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"depth": 99}, r"depth must be 6 n \+ 4 with n of at least 1 \(10, 16, …\), not 99"),
        ({"depth": 4}, "depth must be 6 n"),
        ({"growth": 0}, "growth must be a whole number of at least 1, not 0"),
        ({"reduction": 0.0}, r"reduction must lie in \(0, 1\]"),
        ({"reduction": 1.5}, r"reduction must lie in \(0, 1\]"),
        ({"growth": 1, "depth": 10, "reduction": 0.2}, "leave a channel, not 0.2"),
    ],
)
def test_settings_that_no_such_network_has_are_refused(settings, told):
    with pytest.raises(SettingError, match=told):
        densenet((3, 32, 32), 10, **BC100 | settings)


def test_images_that_two_transitions_leave_nothing_of_are_refused():
    with pytest.raises(DataError, match="at least 4×4 pixels, not 3×3"):
        densenet((3, 3, 3), 10, **BC100)
