"""Settings compared with the signatures that take them."""

from dataclasses import dataclass
from functools import partial

import pytest

from mint_cli.errors import SettingError
from mint_cli.signatures import bind, check_types, described, fits, nearest, shown


def inner(x, /, *, bins: int):
    """Stands for an estimator."""


def plugin(
    model, cells, /, *, ridge: float, names: list[str], caps: dict[str, float], inner: partial
):
    """Stands for a criterion."""


SETTINGS = {"ridge": 0.5, "names": ["a"], "caps": {"a": 1}, "inner": partial(inner, bins=3)}


def bound(**changed) -> None:
    settings = {k: v for k, v in {**SETTINGS, **changed}.items() if v is not ...}
    bind(partial(plugin, **settings))


def test_settings_that_fit_pass_and_a_whole_number_is_a_float():
    bound()
    bound(ridge=1)


BAD = {
    "unknown": ({"rigde": 1.0}, "^rigde is no setting of plugin; did you mean ridge?"),
    "nothing like it": (
        {"zzz": 1},
        "^zzz is no setting of plugin; it has ridge, names, caps, inner",
    ),
    "runtime": ({"cells": 1}, "^cells is no setting of plugin"),
    "missing": ({"names": ...}, "^names is needed by plugin"),
    "type": ({"ridge": "much"}, "^ridge must be a number, not 'much'"),
    "bool": ({"ridge": True}, "^ridge must be a number, not True"),
    "nan": ({"ridge": float("nan")}, "^ridge must be a number, not nan"),
    "inside a list": ({"names": ["a", 1]}, "^names must be a list of texts"),
    "inside a mapping": ({"caps": {"a": "b"}}, "^caps must be a mapping to numbers"),
    "group": ({"inner": 3}, "^inner must be a group of settings, not 3"),
    "of the group": (
        {"inner": partial(inner, bin=3)},
        "^inner.bin is no setting of inner; did you mean bins?",
    ),
    "type in the group": (
        {"inner": partial(inner, bins=0.5)},
        "^inner.bins must be a whole number, not 0.5",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_do_not_fit_are_refused_by_name(case):
    changed, told = BAD[case]
    with pytest.raises(SettingError, match=told):
        bound(**changed)


@dataclass
class Value:
    groups: int | dict[str, int | None] | None
    seed: int


def test_unions_and_contents_of_mappings_are_looked_into():
    for groups in (None, 3, {"default": 3, "fc1": None}):
        check_types(Value, {"groups": groups, "seed": 0})
    for groups in ("five", 0.5, {"default": "five"}, True):
        with pytest.raises(
            SettingError,
            match="groups must be a whole number or a mapping to whole numbers or null",
        ):
            check_types(Value, {"groups": groups, "seed": 0})


def test_numbers_that_no_tensor_and_no_generator_takes_are_refused():
    assert fits(2**63 - 1, int) and not fits(2**63, int) and not fits(-(2**63), float)
    assert fits(float("inf"), float)  # bounds are another question


def test_hints_are_told_in_the_users_words_of_one_and_of_many():
    assert described(int | None) == "a whole number or null" and described(bool) == "true or false"
    assert described(Value) == described(partial) == "a group of settings"
    assert (
        described(list[str]) == "a list of texts"
        and described(dict[str, float]) == "a mapping to numbers"
    )


def test_values_are_shown_as_they_are_written():
    assert [shown(v) for v in (None, "a", 3, [1])] == ["null", "'a'", 3, [1]]


def test_the_nearest_name_is_the_hint_if_one_is_near():
    assert nearest("spasity", ["sparsity", "skip"]) == "did you mean sparsity?"
    assert nearest("x", ["sparsity", "skip"]) == "it has sparsity, skip"
    assert nearest("x", []) == "it has none"
