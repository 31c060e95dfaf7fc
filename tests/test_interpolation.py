"""Where interpolations lead, and what they come to."""

import pytest

from mint_cli.errors import SettingError
from mint_cli.interpolation import check, followed

RAW = {
    "pruner": {
        "groups": None,
        "child_groups": "${pruner.groups}",
        "calibration": {"images": 5},
        "granularity": {"child_groups": "${pruner.child_groups}"},
        "criterion": {"calibration": "${pruner.calibration}", "depth": 3},
    },
    "data": "${oc.env:MINT_DATA,data}",
    "loop": "${loop}",
    "lost": "${absent}",
}


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("pruner.granularity.child_groups", "pruner.groups"),
        ("pruner.granularity.child_groups.fc1", "pruner.groups.fc1"),
        ("pruner.criterion.calibration.images", "pruner.calibration.images"),
        ("pruner.criterion.depth", "pruner.criterion.depth"),
        ("pruner.absent.depth", "pruner.absent.depth"),
        ("data", "data"),
        ("loop", "loop"),
        ("lost", "lost"),
    ],
)
def test_a_path_is_followed_through_settings_that_are_nothing_but_another_one(path, leads_to):
    assert ".".join(followed(RAW, tuple(path.split(".")))) == leads_to


def test_a_plain_configuration_passes():
    check({name: value for name, value in RAW.items() if name not in ("loop", "lost")})
    check({"a": {"b": None, "c": "${.b} ${..d[1]}"}, "d": [1, 2], "e": "${oc.select:absent,3}${now:%Y}"})


def doubling(link):
    return {f"a{i}": link(f"a{i + 1}") for i in range(60)} | {"a60": "x"}


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"a": "${a}"}, "a names itself"),
        ({"a": "${b}", "b": "1 ${a}"}, "names itself"),
        ({"a": {"b": "${a}"}}, "a.b names itself"),
        ({"a": {"b": "${..a}"}}, "a.b names itself"),
        ({"a": ["${a}"]}, "a.0 names itself"),
        (doubling(lambda to: f"${{{to}}}${{{to}}}"), "comes to more than"),
        (doubling(lambda to: {"x": f"${{{to}}}", "y": f"${{{to}}}"}), "comes to more than"),
        (doubling(lambda to: {"x": f"${{..{to}}}", "y": f"${{..{to}}}"}), "comes to more than"),
        (doubling(lambda to: f"${{oc.select:{to}}}${{oc.select:{to},3}}"), "comes to more than"),
        ({f"a{i}": f"${{a{i + 1}}}" for i in range(9000)}, "without end"),
        ({"a": "x ${b.c}", "b": {}}, "a names b.c, which is no setting"),
        ({"a": ["${b}"]}, "a.0 names b, which is no setting"),
        ({"a": {"b": "${.c}"}}, "a.b names .c, which is no setting"),
        ({"a": "${b.${c}}", "c": 1}, "a must name other settings directly"),
        ({f"a{i}": "${long}" for i in range(50)} | {"long": "x" * 50_000}, "comes to more than"),
    ],
)
def test_what_never_ends_or_fills_the_memory_is_refused_without_writing_it_out(raw, sentence):
    with pytest.raises(SettingError, match=sentence):
        check(raw)
