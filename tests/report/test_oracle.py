"""The page, the list of maps and the plot of an oracle."""

import csv
import io

import numpy as np
import pytest

from mint_cli.report import oracle as report


def found(value):
    return {"value": value, "low": value and value - 0.1, "high": value and value + 0.1, "sites": 2}


@pytest.fixture
def record():
    three = {row: found(0.5) for row in report.ROWS}
    return {
        "model": "vgg16",
        "dataset": "cifar10",
        "oracle": {
            "images": 75, "maps": 4224, "sites": 13, "loss": 0.0123, "accuracy": 0.995,
            "helps": 7, "idle": 3,
        },
        "correlations": {
            "taylor_activation": {**three, "all_layers": found(-0.25)},
            "mine": {**three, "normalised": found(None)},
        },
        "halves": three,
    }  # fmt: skip


def test_a_row_has_our_correlations_with_intervals_and_the_published_ones_beside(record):
    line = next(one for one in report.table(record).splitlines() if "taylor_activation" in one)
    assert line.startswith("| taylor_activation | .50 [.40, .60] | −.25 [−.35, −.15] | .50 [")
    assert line.endswith(
        "| .73 / .14 / .73 | .60 / .02 / .70 | .77 / .37 / .75 | .58 / .11 / .55 |"
    )


def test_a_criterion_that_was_not_published_or_has_no_correlation_has_no_number(record):
    line = next(one for one in report.table(record).splitlines() if "mine" in one)
    assert line.endswith("| – |  |  |  |  |")


def test_the_page_says_what_the_oracle_is_of(record):
    page = report.text(record)
    assert "4,224 maps of 13 sites" in page and "75 training images" in page
    assert "never test images" in page and "7 maps whose removal lowers the loss" in page


def test_published_rows_are_of_five_sets_and_mutual_information_of_one():
    known = report.published()
    assert len({one for one, _ in known}) == 5 and set(report.SETS) < {one for one, _ in known}
    assert [one for one, name in known if name == "mutual_information"] == ["VGG-16 / Birds-200"]
    assert known["AlexNet / ImageNet", "apoz"]["per_layer"] == -0.06
    assert known["AlexNet / ImageNet", "obd"]["normalised"] is None


def test_the_list_has_a_line_a_map():
    changes = {"loss": {"a": np.array([0.5, -1e-9])}, "accuracy": {"a": np.array([0.0, 0.1])}}
    text = report.rows(changes, {"l1": {"a": np.array([1.0, 2.0])}})
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"site": "a", "map": "0", "loss_change": "0.5", "accuracy_change": "0", "l1": "1"},
        {"site": "a", "map": "1", "loss_change": "-1e-09", "accuracy_change": "0.1", "l1": "2"},
    ]


def test_a_plot_is_drawn_of_scores_of_every_kind(tmp_path):
    rng = np.random.default_rng(0)
    reference = {"a": rng.random(8), "b": np.append(rng.random(5), 0.0)}
    scores = {
        "wide": {site: own**9 for site, own in reference.items()},
        "signed": {site: own - 0.5 for site, own in reference.items()},
        "constant": {site: np.zeros(len(own)) for site, own in reference.items()},
    }
    report.scatter(tmp_path / "scatter.png", scores, reference, dict.fromkeys(scores, None))
    assert (tmp_path / "scatter.png").read_bytes().startswith(b"\x89PNG")
