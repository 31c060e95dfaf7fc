"""``mint-oracle``: the command as it is typed, on digits."""

import csv
import json

import numpy as np
import pytest

from mint_cli import oracle
from mint_cli.oracle import Measured, main, parts

SETTINGS = ["model.hidden=[12,8]", "schedule.train.epochs=1", "threads=1"]
SETTINGS += ["pruner.samples_per_class=10", "schedule.train.precision=float32"]


def run(folder, *more, criteria="taylor_activation,min_weight,random", images=30):
    options = ["--criteria", criteria, "--images", str(images), "--resamples", "20"]
    return main(
        [*SETTINGS, f"store={folder / 'store'}", *options, "--out", str(folder / "out"), *more]
    )


def test_it_measures_scores_and_writes_a_record_a_page_a_list_and_a_plot(tmp_path, capsys):
    assert run(tmp_path) == 0
    out = tmp_path / "out"
    record = json.loads((out / "oracle.json").read_text())
    assert record["oracle"]["maps"] == 20 and record["oracle"]["images"] == 30
    assert list(record["correlations"]) == [
        "taylor_activation",
        "min_weight",
        "random",
        "oracle_loss",
    ]
    assert record["correlations"]["taylor_activation"]["all_layers"]["value"] > 0.5
    assert capsys.readouterr().out.strip() == (out / "oracle.md").read_text().strip()
    with (out / "maps.csv").open() as lines:
        maps = list(csv.DictReader(lines))
    assert len(maps) == 20 and set(maps[0]) > {"loss_change", "accuracy_change", "min_weight"}
    assert (out / "scatter.png").stat().st_size > 1000
    assert str(tmp_path) not in (out / "oracle.json").read_text()


def test_what_is_stored_is_not_measured_again_and_more_images_add_to_it(tmp_path, monkeypatch):
    assert run(tmp_path, images=25) == 0
    first = json.loads((tmp_path / "out" / "oracle.json").read_text())
    taken = len(list((tmp_path / "store" / "oracle").iterdir()))
    assert run(tmp_path, images=25) == 0
    again = json.loads((tmp_path / "out" / "oracle.json").read_text())
    assert again["correlations"] == first["correlations"]
    assert len(list((tmp_path / "store" / "oracle").iterdir())) == taken == 1
    assert run(tmp_path, images=30) == 0
    assert len(list((tmp_path / "store" / "oracle").iterdir())) == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--images", "1"], "--images must lie between 2 and"),
        (["--images", "99999"], "not 99999"),
        (["--criteria", "taylr"], "taylr"),
        (["--criteria", "weight_input"], "granularity must have cells of one layer here"),
        (["--criteria", ""], "--criteria must name pruners"),
        (["--resamples", "0"], "--resamples must be at least 1"),
        (
            ["granularity@pruner.granularity=blocks", "pruner.groups=1"],
            "granularity must be filters",
        ),
        (["pruner.samples_per_class=9999"], "pruner.samples_per_class must lie between"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_before_any_work(tmp_path, capsys, more, told):
    assert run(tmp_path, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("mint-oracle: ") and told in error and error.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_changes_are_means_over_images_less_those_of_the_whole_network():
    losses = {"dense": np.array([1.0, 3.0]), "a": np.array([[2.0, 4.0], [0.0, 3.0]])}
    right = {"dense": np.array([1.0, 0.0]), "a": np.array([[0.0, 0.0], [1.0, 1.0]])}
    found = Measured(losses, right, 0.0)
    assert found.changes()["loss"]["a"].tolist() == [1.0, -0.5]
    assert found.changes()["accuracy"]["a"].tolist() == [-0.5, 0.5]
    assert found.absolute(slice(0, None, 2))["a"].tolist() == [1.0, 1.0]


def test_parts_are_of_25_images_and_the_last_of_the_rest(tmp_path):
    cfg = oracle.composed([oracle.FILTERS, *SETTINGS, f"store={tmp_path}"])
    steps = parts(oracle.job_of(cfg, tmp_path).experiment, 60)
    assert [one.inputs[3:5] for one in steps] == [(0, 25), (25, 50), (50, 60)]
