"""Samples with classes: what is refused, and halves that see half of every class."""

import numpy as np
import pytest
import torch

from mint_cli.errors import DataError
from mint_cli.kernel.labelled import from_classes, labelled

ONE = torch.zeros(1, dtype=torch.int64)


def test_classes_are_numbered_from_0_in_their_order():
    numbers = torch.tensor([7.0, 3.0, 3.0, 7.0, 3.0, 7.0, 7.0, 3.0])[:, None]
    _, labels = labelled(torch.rand(8, 1), numbers, ONE)
    assert labels.tolist() == [1, 0, 0, 1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        (torch.arange(8.0)[:, None] / 2, "one column of class numbers"),
        (torch.zeros(8, 2), "one column of class numbers"),
        (torch.zeros(7, 1), "the same samples, not 8 and 7"),
        (torch.zeros(8, 1), "two classes of 4 samples, not 1 of 8"),
        (torch.tensor([0.0] * 5 + [1.0] * 3)[:, None], "two classes of 4 samples, not 2 of 3"),
    ],
)
def test_what_are_no_classes_is_refused(parent, told):
    with pytest.raises(DataError, match=told):
        labelled(torch.rand(8, 1), parent, ONE)


def test_halves_are_disjoint_and_have_half_of_every_class():
    x = torch.arange(24.0)[:, None]
    x, labels = labelled(x, (torch.arange(24) % 3).double()[:, None], ONE)
    seen = []

    def note(values, own):
        seen.append((set(values[:, 0].tolist()), torch.bincount(own).tolist()))
        return float(len(values))

    found = from_classes(note, x, labels, np.random.default_rng(0))
    assert found.score.tolist() == [[24.0]] and [h.tolist() for h in found.halves] == [[[12.0]]] * 2
    halves = [own for own in seen if len(own[0]) == 12]
    assert halves[0][0] | halves[1][0] == set(range(24)) and halves[0][1] == halves[1][1] == [4] * 3
