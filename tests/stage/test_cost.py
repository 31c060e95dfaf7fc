"""The cost of networks before and after."""

import torch
from channels import filter_cells
from experiments import SMALL, network

from mint_cli import packed
from mint_cli.network import cost as co
from mint_cli.network import surgery
from mint_cli.stage.common import prefixed
from mint_cli.stage.cost import cost
from mint_cli.store import Artifact


def states(own):
    """A dense network, the same with two channels of a layer at zero, and without them."""
    dense, masked = own.build(), own.build()
    cells = filter_cells(masked, pixels=own.pixels)
    kept = {site: torch.ones(c.shape, dtype=torch.bool) for site, c in cells.items()}
    kept["inner"][:2] = False
    with torch.no_grad():
        for name in ("inner", "norm"):
            masked.get_parameter(f"{name}.weight")[:2] = 0.0
        masked.norm.bias[:2] = 0.0
    small = surgery.shrink(masked, cells, kept)
    rows, columns = surgery.indices(cells, kept)
    parts = (prefixed("rows", rows), prefixed("columns", columns))
    return [
        Artifact(prefixed("state", dense.state_dict()), {}, 0.0),
        Artifact(prefixed("state", masked.state_dict()), {}, 0.0),
        Artifact(prefixed("state", small.state_dict()) | parts[0] | parts[1], {}, 0.0),
    ]


def test_the_smaller_network_is_counted_as_it_is_and_the_masked_one_as_the_dense(context):
    own = network(SMALL)
    dense, masked, small = states(own)
    tensors, found = cost(own, dense, masked, small, context)
    assert tensors == {} and found["dense"]["macs"] == found["retrained"]["macs"]
    built = own.rebuild(small)
    count = sum(p.numel() for p in built.parameters())
    assert found["shrunken"]["parameters"] == count < found["retrained"]["parameters"]
    assert found["shrunken"]["macs"] == found["dense"]["macs"] - 36 * 2 * (54 + 54)
    assert found["shrunken"]["bytes"] < found["dense"]["bytes"]
    state = own.build().state_dict()
    assert found["dense"]["bytes"] == len(packed.pack({}, state, {}, {}))
    assert found["shrunken"]["activations"] == co.peak_activations(built, own.pixels)
    for name in ("dense", "retrained", "shrunken"):
        times = found[name]["latency"]
        assert set(times) == {"batch_1", "batch_128"}
        assert 0 < times["batch_1"]["median"] <= times["batch_128"]["high"]
    assert found["threads"] == torch.get_num_threads() and found["device"].startswith("cpu (")


def test_without_a_smaller_network_two_are_measured(context):
    own = network(SMALL)
    dense, masked, _ = states(own)
    assert set(cost(own, dense, masked, None, context)[1]) == {
        "dense", "retrained", "threads", "device",
    }  # fmt: skip
