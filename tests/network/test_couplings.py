"""What NaNs in one channel show of a network: where it arrives, with which others, and what it
fixes.
"""

import pytest
import torch
from channels import NETWORKS, PIXELS, Net, conv, pooled
from networks import seeded
from torch import nn
from torch.nn import functional as F

from mint_cli.network import couplings as cp
from mint_cli.network.couplings import IMAGE, codes, couplings, decoded


def arrived(name: str, maker: str) -> dict[str, list[int]]:
    found = couplings(NETWORKS[name](), PIXELS).arrivals[maker]
    return {place: at.tolist() for place, at in found.items() if place != "logits"}


@pytest.mark.parametrize(
    ("network", "maker", "places"),
    [
        ("sequential", "first", {"norm": [*range(6)], "last": [*range(6)]}),
        ("residual", "stem", {"inner": [*range(6)], "out": [*range(6)]}),
        ("residual", "outer", {"out": [*range(6)]}),
        ("concatenated", "left", {"norm": [0, 1, 2, 3] + [-1] * 5, "out": [0, 1, 2, 3] + [-1] * 5}),
        ("concatenated", "right", {"norm": [-1] * 4 + [*range(5)], "out": [-1] * 4 + [*range(5)]}),
        ("flattened", "first", {"out": [c for c in range(4) for _ in range(64)]}),
        (
            "depthwise",
            "first",
            {"deep": [*range(6)], "last": [c for c in range(6) for _ in range(2)]},
        ),
        ("prelu", "first", {"act": [*range(6)], "out": [*range(6)]}),
        ("gated", "first", {"down": [*range(6)], "out": [*range(6)]}),
        ("gated", "up", {"out": [*range(6)]}),
        ("split", "first", {"own": [0, 1, 2, 3], "out": [-1] * 4 + [4, 5, 6, 7]}),
    ],
)
def test_a_channel_arrives_where_it_is_read_through_all_that_keeps_channels_apart(
    network, maker, places
):
    assert arrived(network, maker) == places


def test_layers_that_keep_channels_apart_make_none():
    assert set(couplings(NETWORKS["depthwise"](), PIXELS).channels) == {
        IMAGE,
        "first",
        "last",
        "out",
    }


def test_makers_of_a_residual_stream_are_those_that_meet_in_a_sum():
    assert couplings(NETWORKS["residual"](), PIXELS).added == {"stem", "outer"}
    assert couplings(NETWORKS["gated"](), PIXELS).added == frozenset()


class Normed(nn.Module):
    """A layer norm over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("mix", [Normed(), nn.Softmax(1), nn.GroupNorm(2, 6)])
def test_what_mixes_channels_fixes_them_and_the_layer_that_reads_the_mixture_is_named(mix):
    model = seeded(
        lambda: Net(
            lambda m, x: m.out(pooled(m.last(m.mix(m.first(x))))),
            first=conv(3, 6), mix=mix, last=conv(6, 5), out=nn.Linear(5, 3),
        )
    )  # fmt: skip
    fixed = couplings(model, PIXELS).fixed
    assert fixed["first"] == "its channels are mixed before last" and "last" not in fixed


def test_outputs_of_the_network_and_images_are_fixed():
    fixed = couplings(NETWORKS["sequential"](), PIXELS).fixed
    assert fixed == {"out": "its channels are the network's outputs", IMAGE: "they are the images"}


def test_a_norm_that_is_called_twice_fixes_what_enters_it():
    model = seeded(
        lambda: Net(
            lambda m, x: m.out(pooled(m.norm(m.last(torch.relu(m.norm(m.first(x))))))),
            first=conv(3, 6), norm=nn.BatchNorm2d(6), last=conv(6, 6), out=nn.Linear(6, 3),
        )
    )  # fmt: skip
    fixed = couplings(model, PIXELS).fixed
    assert fixed["first"] == fixed["last"] == "norm is called 2 times in one pass"


def test_a_network_that_nothing_but_numbers_can_pass_through_is_told_with_its_error():
    def forward(m, x):
        x = m.first(x)
        if x.isnan().any():
            raise ValueError("no numbers")
        return m.out(pooled(x))

    model = seeded(lambda: Net(forward, first=conv(3, 6), out=nn.Linear(6, 3)))
    assert couplings(model, PIXELS).fixed["first"] == "a network of NaNs cannot be run (no numbers)"


def test_an_error_without_words_is_told_by_its_kind():
    def forward(m, x):
        x = m.first(x)
        if x.isnan().any():
            raise ValueError
        return m.out(pooled(x))

    model = seeded(lambda: Net(forward, first=conv(3, 6), out=nn.Linear(6, 3)))
    assert couplings(model, PIXELS).fixed["first"] == "a network of NaNs cannot be run (ValueError)"


def test_the_network_is_left_as_it_was():
    model = NETWORKS["gated"]()
    x, state = torch.rand(2, *PIXELS), {n: t.clone() for n, t in model.state_dict().items()}
    before = model(x)
    couplings(model, PIXELS)
    assert torch.equal(model(x), before) and "forward" not in vars(model.first)
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())


def plainly(found):
    arrivals = {
        maker: {place: at.tolist() for place, at in own.items()}
        for maker, own in found.arrivals.items()
    }
    return arrivals, found.channels, found.fixed, found.added


@pytest.mark.parametrize("network", NETWORKS)
def test_makers_looked_at_together_show_what_each_shows_alone(network, monkeypatch):
    together = couplings(NETWORKS[network](), PIXELS)
    monkeypatch.setattr(cp, "apart", lambda reach: [[maker] for maker in reach])
    monkeypatch.setattr(cp, "PASS", 1)
    assert plainly(couplings(NETWORKS[network](), PIXELS)) == plainly(together)


def test_makers_that_nowhere_reach_the_same_channel_share_a_pass(monkeypatch):
    passes, probe = [], cp.probe

    def counting(model, shapes, pixels, marks):
        passes.append(set(marks))
        return probe(model, shapes, pixels, marks)

    monkeypatch.setattr(cp, "probe", counting)
    couplings(NETWORKS["concatenated"](), PIXELS)
    assert passes == [{IMAGE, "left", "right", "out"}] * 2
    passes.clear()
    couplings(NETWORKS["residual"](), PIXELS)  # what the stem and the outer layer make is added
    assert passes[1:] == [{IMAGE, "stem", "inner", "out"}, {"outer"}]


@pytest.mark.parametrize("passing", ["all", "some"])
def test_channels_that_pass_together_otherwise_than_apart_are_fixed(passing):
    def forward(m, x):
        x = m.first(x)
        bad = x.isnan()
        every = bad.all(1, keepdim=True)
        stopped = (bad & ~every) if passing == "all" else (bad & every)
        return m.out(pooled(m.last(x.masked_fill(stopped, 0.0))))

    model = seeded(lambda: Net(forward, first=conv(3, 6), last=conv(6, 5), out=nn.Linear(5, 3)))
    fixed = couplings(model, PIXELS).fixed
    assert "last" in fixed["first"] and "last" not in fixed


def test_a_layer_whose_rows_are_no_images_fixes_what_enters_it():
    def forward(m, x):
        rows = m.first(x).flatten(2).movedim(1, 2).flatten(0, 1)  # a row for each position
        return m.out(m.own(rows).view(len(x), -1, 5).mean(1))

    model = seeded(lambda: Net(forward, first=conv(3, 6), own=nn.Linear(6, 5), out=nn.Linear(5, 3)))
    assert couplings(model, PIXELS).fixed["first"] == "the rows that enter own are not images"


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 9])
def test_every_channel_has_a_code_of_its_own_and_two_at_once_show(channels):
    code = codes(channels)
    found, mixed = decoded(code)
    assert found.tolist() == list(range(channels)) and not mixed
    if channels > 1:
        assert decoded(code.any(1, keepdim=True))[1]


def test_the_largest_of_a_neighbourhood_keeps_channels_apart():
    model = seeded(
        lambda: Net(
            lambda m, x: m.out(F.max_pool2d(F.relu6(m.first(x)), 8).flatten(1)),
            first=conv(3, 6), out=nn.Linear(6, 3),
        )
    )  # fmt: skip
    assert couplings(model, PIXELS).arrivals["first"]["out"].tolist() == [*range(6)]
