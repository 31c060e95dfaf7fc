"""Plots: the right points, and a picture or a sentence."""

from __future__ import annotations

import pytest
from report.records import folder, record

from mint_cli.report import plot, table
from mint_cli.report.rows import Row, Stat
from mint_cli.report.table import curves, main

PNG = b"\x89PNG\r\n\x1a\n"


def row(pruner: str, groups: int, mean: float, sd: float | None = 0.01, **settings: str) -> Row:
    """A row of one pruner and group size."""
    names = {
        "dataset": "mnist",
        "model": "mlp",
        "pruner": pruner,
        "pruner.groups": str(groups),
        **settings,
    }
    return Row(
        names, {"accuracy.retrained": Stat(mean, sd, 3), "sparsity.total": Stat(0.9, 0.0, 3)}
    )


def test_a_line_holds_the_points_of_one_combination_of_the_other_settings_in_percent():
    lines = curves(
        [row("gmi", 5, 0.9), row("gmi", 20, 0.8), row("l1", 5, 0.7, None), row("l1", 20, 0.6)],
        "pruner.groups",
        "accuracy.retrained",
    )
    assert lines == {"gmi": [(5, 90, 0, 1), (20, 80, 0, 1)], "l1": [(5, 70, 0, 0), (20, 60, 0, 1)]}


def test_a_copy_of_the_x_setting_makes_no_lines_of_its_own():
    rows = [
        row(pruner, groups, 0.9, copy=str(groups)) for pruner in ("gmi", "l1") for groups in (5, 20)
    ]
    assert list(curves(rows, "copy", "accuracy.retrained")) == ["gmi", "l1"]


def test_against_the_sparsity_reached_the_sparsity_asked_for_makes_no_lines():
    rows = [
        row(pruner, 5, 0.9, **{"pruner.sparsity": asked})
        for pruner in ("gmi", "l1")
        for asked in ("0.8", "0.9")
    ]
    assert list(curves(rows, "sparsity.total", "accuracy.retrained")) == ["gmi", "l1"]


def test_settings_with_the_same_last_name_are_told_apart():
    rows = [
        row("gmi", 5, 0.9, **{"a.train.epochs": train, "a.retrain.epochs": retrain})
        for train in "12"
        for retrain in "34"
    ]
    names = list(curves(rows, "sparsity.total", "accuracy.retrained"))
    assert sorted(names) == [
        f"train.epochs {train}, retrain.epochs {retrain}" for train in "12" for retrain in "34"
    ]


@pytest.mark.parametrize(
    "places", [(1.0, 2.0), (0.0, 1.0, 40.0), (5.0, 50.0), ("cosine", "step"), (5.0, "null")]
)
def test_any_kind_of_place_can_be_drawn(tmp_path, places):
    lines = {
        name: [(place, 90.0 + shift, 0.0, 1.0) for shift, place in enumerate(places)]
        for name in ("gmi", "l1")
    }
    plot.draw(tmp_path / "p.png", lines, "x (%)", "y (%)")
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


@pytest.fixture
def made(tmp_path):
    """Records of two pruners at two group sizes."""
    return folder(
        tmp_path, *(record(pruner, groups=g) for pruner in ("gmi", "l1") for g in (5, 20))
    )


@pytest.mark.parametrize("name", ["$\\frac$", "a $x$ b$", "_hidden", "ü", "\\"])
def test_any_name_stands_in_the_legend_as_it_is(tmp_path, monkeypatch, name):
    legends = []
    write = plot.Figure.savefig

    def savefig(figure, *arguments, **options):
        (legend,) = (axes.get_legend() for axes in figure.axes)
        legends.extend(one.get_text() for one in legend.get_texts())
        write(figure, *arguments, **options)

    monkeypatch.setattr(plot.Figure, "savefig", savefig)
    plot.draw(tmp_path / "p.png", {name: [(1.0, 2.0, 0.0, 0.0)]}, name, name)
    assert [one.replace("\\$", "$").strip("\N{ZERO WIDTH SPACE}") for one in legends] == [name]


def test_the_command_draws_a_picture_and_still_prints_the_table(made, capsys):
    assert main([str(made), "--plot", str(made / "p.png"), "--x", "pruner.groups"]) == 0
    assert (made / "p.png").read_bytes().startswith(PNG)
    assert capsys.readouterr().out.count("\n| ") == 5
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []


def test_a_plot_that_cannot_be_written_or_has_no_points_is_named(made, capsys):
    assert main([str(made), "--plot", str(made / "no" / "p.png"), "--x", "pruner.groups"]) == 1
    assert str(made / "no" / "p.png") in capsys.readouterr().err
    assert (
        main([str(made), "--plot", str(made / "p.png"), "--x", "pruner.groups", "--y", "pruner"])
        == 1
    )
    assert "nothing to draw" in capsys.readouterr().err and not (made / "p.png").exists()


def test_a_percent_axis_says_so():
    assert (
        table.label("accuracy.pruned") == "accuracy.pruned (%)"
        and table.label("pruner.groups") == "pruner.groups"
    )
