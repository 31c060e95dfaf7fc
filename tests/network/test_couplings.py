"""Which channels hang together: found by where a NaN arrives."""

import pytest
import torch
from channelled import PIXELS, SelfReading, built
from networks import seeded
from torch import nn

from mint_cli.network.couplings import (
    IMAGE,
    LOGITS,
    Recorded,
    codes,
    couplings,
    decoded,
    depthwise,
    is_maker,
    is_place,
    output_shapes,
)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 17])
def test_every_channel_has_a_code_of_its_own_that_is_read_back(channels):
    code = codes(channels)
    numbers, mixed = decoded(code)
    assert numbers.tolist() == list(range(channels)) and not mixed
    assert len({tuple(c.tolist()) for c in code.T}) == channels


def test_where_two_channels_arrive_together_that_is_seen_and_where_none_does_too():
    code = codes(5)
    seen = torch.stack([code[:, 1] | code[:, 3], code[:, 4], torch.zeros(len(code), dtype=torch.bool)], 1)
    numbers, mixed = decoded(seen)
    assert mixed and numbers[1] == 4 and numbers[2] == -1


def test_depthwise_convolutions_pass_channels_on_and_all_others_make_them():
    assert depthwise(nn.Conv2d(4, 8, 3, groups=4)) and not is_maker(nn.Conv2d(4, 8, 3, groups=4))
    for module in (nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3, groups=2), nn.Linear(3, 2), nn.Conv1d(2, 2, 3)):
        assert is_maker(module) and is_place(module) and not depthwise(module)
    assert is_place(nn.BatchNorm2d(3)) and is_place(nn.PReLU(3)) and not is_place(nn.ReLU())


def arrivals(name: str) -> dict[str, dict[str, list[int]]]:
    found = couplings(built(name), PIXELS).arrivals
    return {maker: {p: at.tolist() for p, at in own.items()} for maker, own in found.items()}


def test_channels_travel_through_norms_activations_and_pooling_and_flattening_repeats_them():
    found = arrivals("Chain")
    six, five = list(range(6)), list(range(5))
    assert found["a"] == {"norm": six, "act": six, "b": six}
    assert found["b"] == {"b_norm": five, "c": [c for c in five for _ in range(4)]}
    assert found["c"] == {"out": list(range(7))} and found["out"] == {LOGITS: [0, 1, 2]}
    assert found[IMAGE] == {"a": [0, 1]}


def test_joined_channels_arrive_beside_one_another():
    found = arrivals("Joined")
    assert found["a"]["c"] == [0, 1, 2, 3, -1, -1, -1] == found["a"]["norm"]
    assert found["a"]["b"] == [0, 1, 2, 3] and found["b"]["c"] == [-1] * 4 + [0, 1, 2]


def test_channels_that_are_added_arrive_at_the_same_places_and_are_named():
    coupled = couplings(built("Added"), PIXELS)
    assert coupled.added == {"stem", "b", "short", "d"}
    for maker in ("stem", "b"):
        assert {"a", "c", "short"} >= set(coupled.arrivals[maker]) - {"b_norm"} >= {"c", "short"}
    assert set(coupled.arrivals["d"]) == {"out"} == set(coupled.arrivals["short"])


def test_channels_go_through_depthwise_convolutions_and_products():
    found = arrivals("Depthwise")
    six = list(range(6))
    assert found["a"] == {place: six for place in ("norm", "depth", "down", "b")}
    assert found["up"] == {"b": six}


def test_channels_of_tokens_come_last():
    assert arrivals("Tokens")["a"] == {"b": list(range(6))}


class Mixing(nn.Module):
    """Between its layers channels are mixed, or meet in a way that depends on numbers."""

    def __init__(self, mix) -> None:
        super().__init__()
        self.a, self.b, self.out, self.mix = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 3), mix

    def forward(self, x):
        return self.out(self.b(self.mix(self.a(x))).mean((2, 3)))


@pytest.mark.parametrize("mix", [lambda x: x.softmax(1), lambda x: x - x.mean(1, keepdim=True)])
def test_channels_that_are_mixed_on_their_way_are_fixed_with_the_reason(mix):
    coupled = couplings(seeded(lambda: Mixing(mix)), PIXELS)
    assert coupled.fixed["a"] == "its channels are mixed before b"
    assert "b" not in coupled.fixed and "out" in coupled.fixed


def test_images_and_logits_are_fixed_with_the_reason():
    coupled = couplings(built("Chain"), PIXELS)
    assert coupled.fixed[IMAGE] == "they are the images"
    assert coupled.fixed["out"] == "its channels are the network's outputs"
    assert set(coupled.fixed) == {IMAGE, "out"}
    assert coupled.channels == {IMAGE: 2, "a": 6, "b": 5, "c": 7, "out": 3}


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.out = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.norm(self.norm(self.a(x)).relu()).mean((2, 3)))


def test_what_a_place_that_is_called_twice_receives_is_fixed():
    assert couplings(seeded(Twice), PIXELS).fixed["a"] == "norm is called 2 times in one pass"


def test_probing_leaves_the_network_as_it_was():
    model = built("Added").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recorded = Recorded(model, PIXELS)
    assert recorded.couplings is recorded.couplings  # once
    assert model.training and all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert not any("forward" in vars(m) or m._forward_pre_hooks for m in model.modules())


def test_shapes_are_those_that_every_maker_gives_for_one_image():
    shapes = output_shapes(built("Chain"), PIXELS)
    assert {n: tuple(s) for n, s in shapes.items()} == {
        "a": (1, 6, 8, 8), "b": (1, 5, 4, 4), "c": (1, 7), "out": (1, 3),
    }  # fmt: skip


def test_a_layer_may_arrive_at_itself():
    found = couplings(seeded(SelfReading), PIXELS)
    assert "loop" in found.arrivals["stem"] and found.added == {"stem", "loop"}
