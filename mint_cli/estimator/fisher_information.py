"""How far classes lie apart by the Fisher divergence of Gaussians (after arXiv 2201.11209's
code).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.kernel.labelled import from_classes, labelled
from mint_cli.protocol import Estimate, checked_by

FORMS = ("divergence", "published")


def check(rows: int, /, *, form: str, ridge: float) -> None:
    """SettingError for an unknown form, or a ridge that is none."""
    if form not in FORMS:
        raise SettingError("form", f"must be one of {', '.join(FORMS)}", form)
    if not 0 < ridge < float("inf"):
        reason = "channels that do not vary in a class have no information of their own"
        raise SettingError("ridge", "must be above 0 and finite", ridge, reason)


@checked_by(check)
def fisher_information(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    form: str,
    ridge: float,
) -> Estimate:
    """Largest Fisher divergence of a class from the largest class, mean over channels, (child
    groups, 1).

    Channels are Gaussians by themselves, of means m and variances v in the largest class (1) and
    the other (2): E₁ (∇ log p₁ − ∇ log p₂)² = v₁ (1/v₁ − 1/v₂)² + ((m₁ − m₂) / v₂)², per feature
    squared. ``form`` published has (m₁/v₁ − m₂/v₂)² instead, as the authors' code, which a shift of
    the features changes.  ``ridge`` times a group's mean variance is added to every variance.
    """
    check(len(child), form=form, ridge=ridge)
    x, labels = labelled(child, parent, child_groups)
    return from_classes(partial(largest, form=form, ridge=ridge), x, labels, rng)


fisher_information.of_classes = True  # its parent is the class


def largest(x: Tensor, labels: Tensor, form: str, ridge: float) -> float:
    """The largest divergence of a class of features (n, d) from the largest class, the first of
    equal ones.
    """
    parts = [x[labels == label] for label in range(int(labels.max()) + 1)]
    reference = max(range(len(parts)), key=lambda i: len(parts[i]))
    floor = ridge * float(x.var(0, correction=0).mean())
    if floor == 0:  # all features are the same
        return 0.0
    moments = [(part.mean(0), part.var(0, correction=0) + floor) for part in parts]
    first = moments[reference]
    return max(
        float(divergence(*first, *other, form).mean())
        for i, other in enumerate(moments)
        if i != reference
    )


def divergence(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor, form: str) -> Tensor:
    """Of every channel how far the second Gaussian is from the first."""
    shift = m1 / v1 - m2 / v2 if form == "published" else (m1 - m2) / v2
    return v1 * (1 / v1 - 1 / v2).square() + shift.square()
