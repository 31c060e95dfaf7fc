"""Tables: averages by hand, exact columns, published rows, three formats, failure sentences."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from report.records import column, folder, lines, predicted, record

from mint_cli.report import table
from mint_cli.report.table import main

ROOT = Path(__file__).parents[2]
PUBLISHED = Path(table.__file__).with_name("published.csv")


def test_seeds_are_averaged_with_the_sample_standard_deviation(tmp_path, shown):
    text = shown(
        folder(
            tmp_path,
            *(record(seed=seed, retrained=value) for seed, value in enumerate((0.96, 0.97, 0.98))),
        )
    )
    assert column(text, "accuracy.retrained (%)") == ["97.00 ± 1.00 (3)"]


def test_one_seed_shows_no_standard_deviation(tmp_path, shown):
    assert column(shown(folder(tmp_path, record(retrained=0.9712))), "accuracy.retrained (%)") == [
        "97.12 (1)"
    ]


def test_equal_numbers_are_one_setting_however_they_are_written(tmp_path, shown):
    records = [record(seed=seed) for seed in (0, 1)]
    (
        records[0]["config"]["schedule"]["milestones"],
        records[1]["config"]["schedule"]["milestones"],
    ) = [1, 2.5], [1.0, 2.5]
    assert column(shown(folder(tmp_path, *records)), "accuracy.retrained (%)") == [
        "97.00 ± 0.00 (2)"
    ]


def test_a_checkpoint_is_its_content_wherever_it_lies(tmp_path, shown):
    records = [
        record(seed=seed, checkpoint=content * 32)
        for seed, content in enumerate(("ab", "ab", "cd"))
    ]
    for one, place in zip(records, "xyz", strict=True):
        one["config"]["checkpoint"] = f"/{place}/dense.pth"
    text = shown(folder(tmp_path, *records))
    assert column(text, "checkpoint") == ["dense.pth:abababab", "dense.pth:cdcdcdcd"]
    assert column(text, "accuracy.retrained (%)") == ["97.00 ± 0.00 (2)", "97.00 (1)"]


def test_the_drop_is_paired_by_seed(tmp_path, shown):
    accuracies = (
        {"dense": 0.98, "pruned": 0.5, "retrained": 0.97},
        {"dense": 0.96, "pruned": 0.5, "retrained": 0.95},
    )
    text = shown(
        folder(
            tmp_path,
            *(record(seed=seed, accuracy=accuracy) for seed, accuracy in enumerate(accuracies)),
        )
    )
    assert column(text, "drop (points)") == ["1.00 ± 0.00 (2)"]
    assert column(text, "accuracy.dense (%)") == ["97.00 ± 1.41 (2)"]


def test_columns_are_exactly_the_settings_that_tell_records_apart(tmp_path, shown):
    both = [
        record(pruner=pruner, seed=seed, groups=groups)
        for pruner in ("gmi", "l1", "random")
        for groups in (5, 20)
        for seed in (0, 1)
    ]
    heading, *body = lines(shown(folder(tmp_path, *both)))
    assert heading[:3] == ["pruner", "pruner.groups", "sparsity.total (%)"]
    assert [row[:2] for row in body] == [
        ["gmi", "5"],
        ["gmi", "20"],
        ["l1", "5"],
        ["l1", "20"],
        ["random", "5"],
        ["random", "20"],
    ]


def test_a_setting_that_nobody_prefers_is_still_shown_when_it_tells_records_apart(tmp_path, shown):
    one, other = record(), record()
    other["config"]["model"]["dropout"] = 0.5
    assert column(shown(folder(tmp_path, one, other)), "model.dropout") == ["0.2", "0.5"]


def test_a_number_that_varies_with_a_shown_column_is_named_below(tmp_path, shown):
    text = shown(folder(tmp_path, record("gmi", groups=50), record("l1", groups=20)))
    assert lines(text)[0][:2] == ["pruner", "sparsity.total (%)"]
    assert "- Without a column, but not the same in every row: pruner.groups (50, 20)." in text


def test_a_setting_that_only_some_pruners_have_makes_no_column(tmp_path, shown):
    text = shown(folder(tmp_path, record("gmi"), record("l1"), record("random")))
    assert "samples_per_class" not in text and "Without a column" not in text


def test_the_same_table_comes_from_records_in_any_order(tmp_path, shown):
    records = [
        record(pruner=pruner, seed=seed, groups=groups)
        for pruner in ("gmi", "l1")
        for groups in (5, 20)
        for seed in (0, 1)
    ]
    straight = shown(folder(tmp_path / "a", *records))
    random.Random(0).shuffle(records)
    assert shown(folder(tmp_path / "b", *records)) == straight


def test_a_configuration_and_seed_found_twice_counts_once_and_the_latest_wins(tmp_path, shown):
    new, old = (
        record(retrained=0.91, finished="2026-02-02T00:00:00+00:00"),
        record(retrained=0.95, finished="2026-01-01T00:00:00+00:00"),
    )
    assert column(shown(folder(tmp_path, new, old)), "accuracy.retrained (%)") == ["91.00 (1)"]


def test_without_a_time_in_the_record_the_file_time_decides_which_is_latest(tmp_path, shown):
    folder(tmp_path, record(retrained=0.91), record(retrained=0.95))
    os.utime(tmp_path / "run1" / "record.json", (1, 1))
    assert column(shown(tmp_path), "accuracy.retrained (%)") == ["91.00 (1)"]


def test_a_folder_given_twice_counts_once(tmp_path, shown):
    folder(tmp_path, record(), record(seed=1))
    assert shown(tmp_path, tmp_path / "run0") == shown(tmp_path)


def test_a_missing_number_is_a_dash(tmp_path, shown):
    assert column(
        shown(folder(tmp_path, record("gmi"), record("l1", retrained=None))),
        "accuracy.retrained (%)",
    ) == ["97.00 (1)", "–"]


def test_agreement_has_a_column_only_when_some_record_has_one(tmp_path, shown):
    assert "agreement" not in lines(shown(folder(tmp_path / "a", record())))[0]
    assert column(
        shown(folder(tmp_path / "b", record(reliability={"agreement": 0.4}))), "agreement"
    ) == ["0.400 (1)"]


def test_one_denominator_is_named_below_and_several_are_marked_in_the_cells(tmp_path, shown):
    whole = record(
        "l1",
        weights={"prunable": 545000, "all": 545000},
        sparsity={"total": 0.9, "of_all_weights": 0.9, "layers": {}},
    )
    one = shown(folder(tmp_path / "a", record()))
    assert "- sparsity.total is the share removed of 150,000 prunable weights (fc2)." in one
    two = shown(folder(tmp_path / "b", record(), whole))
    assert column(two, "sparsity.total (%)") == ["90.00 (1) [a]", "90.00 (1) [b]"]
    assert "- [b] sparsity.total is the share removed of 545,000 prunable weights." in two


def test_published_rows_belong_to_the_same_data_set_and_model_and_are_marked(tmp_path, shown):
    text = shown(folder(tmp_path, record()), "--published")
    heading, *body = lines(text)
    rule = [row[0] for row in body].index("**published, not measured here**")
    entries = [
        entry
        for entry in csv.DictReader(PUBLISHED.open())
        if (entry["dataset"], entry["model"]) == ("mnist", "mlp")
    ]
    assert [row[0] for row in body[:rule]] == ["gmi"]
    assert [row[0] for row in body[rule + 1 :]] == [
        f"{entry['method']} (published)" for entry in entries
    ]
    mint = dict(zip(heading, body[rule + 1], strict=True))
    assert (
        mint["sparsity.total (%)"],
        mint["accuracy.dense (%)"],
        mint["accuracy.retrained (%)"],
    ) == ("96.20 [b]", "98.59", "98.47")
    assert mint["source"].startswith("MINT README") and mint["seconds (s)"] == "–"


def test_a_pair_without_published_rows_says_so(tmp_path, shown):
    assert "- No published rows for mlp on digits." in shown(
        folder(tmp_path, record(dataset="digits")), "--published"
    )


def test_columns_asked_for_are_the_only_ones_settings_before_numbers(tmp_path, shown):
    text = shown(
        folder(tmp_path, record()), "--columns", "seconds.score,pruner,sparsity.layers.fc2"
    )
    assert lines(text) == [
        ["pruner", "seconds.score (s)", "sparsity.layers.fc2 (%)"],
        ["gmi", "1.0 (1)", "90.00 (1)"],
    ]


def test_what_columns_hide_is_named_below_when_it_tells_rows_apart(tmp_path, shown):
    text = shown(
        folder(tmp_path, record("gmi"), record("l1")),
        "--columns",
        "pruner.groups,accuracy.retrained",
    )
    assert "- Without a column, but not the same in every row: pruner (gmi, l1)." in text


def test_sort_orders_by_number_and_reverse_turns_it_round_with_missing_values_last(tmp_path, shown):
    folder(
        tmp_path,
        record("a", retrained=0.9),
        record("b", retrained=None),
        record("c", retrained=0.8),
    )
    assert column(shown(tmp_path, "--sort", "accuracy.retrained"), "pruner") == ["c", "a", "b"]
    assert column(shown(tmp_path, "--sort", "accuracy.retrained", "--reverse"), "pruner") == [
        "a",
        "c",
        "b",
    ]


def test_sort_by_two_columns_orders_by_the_second_where_the_first_is_equal(tmp_path, shown):
    folder(
        tmp_path,
        record(groups=10, retrained=0.9),
        record(groups=5, retrained=0.9),
        record(groups=20, retrained=0.8),
    )
    assert column(
        shown(tmp_path, "--sort", "accuracy.retrained,pruner.groups"), "pruner.groups"
    ) == ["20", "5", "10"]


def test_where_keeps_the_rows_with_one_of_the_values_numbers_by_value_and_all_conditions_hold(
    tmp_path, shown
):
    folder(
        tmp_path,
        *(record(pruner, groups=groups) for pruner in ("a", "b", "c") for groups in (5, 10)),
    )
    text = shown(
        tmp_path,
        "--where",
        "pruner=a,c",
        "--where",
        "pruner.groups=10.0",
        "--columns",
        "pruner,pruner.groups",
    )
    assert lines(text)[1:] == [["a", "10"], ["c", "10"]]


@pytest.mark.parametrize("typed", ["[conv1,conv2]", '["conv1", "conv2"]', "[fc1],[conv1, 'conv2']"])
def test_where_takes_lists_as_they_are_typed_and_as_they_are_shown(tmp_path, shown, typed):
    records = [record(pruner) for pruner in ("a", "b")]
    for one, skip in zip(records, (["conv1", "conv2"], ["conv1"]), strict=True):
        one["config"]["pruner"]["skip"] = skip
    text = shown(
        folder(tmp_path, *records), "--where", f"pruner.skip={typed}", "--columns", "pruner"
    )
    assert lines(text)[1:] == [["a"]]


def test_where_without_a_row_names_the_values_there_are_and_a_condition_without_a_value_is_refused(
    tmp_path, failing
):
    assert "no row has pruner.groups 7; there is 20" in failing(
        folder(tmp_path, record()), "--where", "pruner.groups=7"
    )
    assert "accuracy.dense is a number" in failing(tmp_path, "--where", "accuracy.dense=1")
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--where", "pruner.groups"])


def test_csv_gives_back_every_number_exactly(tmp_path, shown):
    values = (0.1 + 0.2, 0.7654321987654321)
    text = shown(
        folder(tmp_path, record("gmi", retrained=values[0]), record("l1", retrained=values[1])),
        "--format",
        "csv",
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(float(row["accuracy.retrained.mean"]) for row in rows) == values
    assert [
        (row["pruner"], row["accuracy.retrained.sd"], row["accuracy.retrained.n"]) for row in rows
    ] == [
        ("gmi", "", "1"),
        ("l1", "", "1"),
    ]


def test_csv_names_source_and_denominator_of_published_rows(tmp_path, shown):
    rows = list(
        csv.DictReader(
            io.StringIO(shown(folder(tmp_path, record()), "--format", "csv", "--published"))
        )
    )
    assert rows[0]["source"] == "" and all(row["source"] for row in rows[1:])
    assert (rows[1]["sparsity.total.of"], float(rows[1]["sparsity.total.mean"])) == (
        "fc2 (published rows)",
        0.962,
    )


def test_latex_is_balanced_and_its_special_characters_are_escaped(tmp_path, shown):
    odd = record("a_b & 50% #1 $x {y} ~z^ \\w")
    odd["config"]["pruner"]["skip"] = ["fc1"]
    text = shown(folder(tmp_path, odd, record("l1")), "--format", "latex", "--published")
    bare = re.sub(r"\\[{}\\&%$#_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert (
        r"a\_b \& 50\% \#1 \$x \{y\} \textasciitilde{}z\textasciicircum{} \textbackslash{}w" in text
    )
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    body = [
        line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line
    ]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in body} == {len(columns)}
    assert not any(line.startswith("[") for line in body)


def test_markdown_keeps_a_pipe_inside_its_cell(tmp_path, shown):
    assert r"| a\|b |" in shown(folder(tmp_path, record("a|b"), record("l1")))


def test_a_failed_run_is_listed_below(tmp_path, shown):
    folder(tmp_path, record())
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "status.json").write_text(
        json.dumps({"state": "failed", "error": "no space"})
    )
    (tmp_path / "run0" / "status.json").write_text(json.dumps({"state": "completed"}))
    notes = [line for line in shown(tmp_path).splitlines() if "Unfinished" in line]
    assert notes == [
        f"- Unfinished, without a record of its own: {tmp_path / 'lost'}: failed (no space)."
    ]


def test_a_record_that_a_later_run_in_its_folder_failed_to_replace_counts_and_the_failure_is_told(
    tmp_path, shown
):
    folder(tmp_path, record())
    (tmp_path / "run0" / "status.json").write_text(json.dumps({"state": "running"}))
    text = shown(tmp_path)
    assert (
        "(1)" in text
        and f"Unfinished, without a record of its own: {tmp_path / 'run0'}: running." in text
    )


def test_a_missing_folder_is_named(tmp_path, failing):
    assert str(tmp_path / "nowhere") in failing(tmp_path / "nowhere")


def test_a_folder_without_records_is_named(tmp_path, failing):
    assert f"no record.json below {tmp_path}" in failing(tmp_path)


def test_a_damaged_record_alone_is_named(tmp_path, failing):
    folder(tmp_path, record())
    (tmp_path / "run0" / "record.json").write_text('{"schema": 1, "dat')
    assert str(tmp_path / "run0" / "record.json") in failing(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"schema": 3}', '{"schema": 2, "seed": 0, "config": 3}', "\x00", "null"],
)
def test_a_damaged_record_among_good_ones_is_a_warning_and_the_rest_is_shown(
    tmp_path, capsys, content
):
    folder(tmp_path, record(), record(seed=1))
    (tmp_path / "run1" / "record.json").write_text(content)
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert column(said.out, "accuracy.retrained (%)") == ["97.00 (1)"]
    assert str(tmp_path / "run1" / "record.json") in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        ("--columns", "accuracy.retrain"),
        ("--sort", "accuracy.retrain"),
        ("--where", "accuracy.retrain=1"),
    ],
)
def test_an_unknown_column_is_named_with_the_nearest(tmp_path, failing, option):
    assert "not accuracy.retrain; did you mean 'accuracy.retrained'?" in failing(
        folder(tmp_path, record()), *option
    )


def test_output_is_written_whole_or_the_path_is_named(tmp_path, shown, failing):
    folder(tmp_path / "in", record())
    assert shown(tmp_path / "in", "--output", tmp_path / "t.md") == ""
    assert (tmp_path / "t.md").read_text() == shown(tmp_path / "in")
    assert str(tmp_path / "no" / "t.md") in failing(
        tmp_path / "in", "--output", tmp_path / "no" / "t.md"
    )


def test_every_published_row_has_a_source_and_values_in_range():
    entries = list(csv.DictReader(PUBLISHED.open()))
    assert len(entries) > 100
    for entry in entries:
        assert entry["source"] and entry["method"] and entry["structured"] in ("yes", "no"), entry
        assert (entry["dataset"], entry["model"]) in {
            ("mnist", "mlp"),
            ("cifar10", "vgg16"),
            ("cifar10", "resnet56"),
            ("imagenet", "resnet50"),
        }
        assert all(0.5 < float(entry[key]) < 1 for key in ("accuracy", "baseline") if entry[key]), (
            entry
        )
        assert bool(entry["sparsity_percent"]) == bool(entry["denominator"]), entry
        assert not entry["sparsity_percent"] or 0 < float(entry["sparsity_percent"]) < 100, entry


def test_published_rows_stand_once():
    entries = [tuple(entry.values()) for entry in csv.DictReader(PUBLISHED.open())]
    assert len(entries) == len(set(entries))


@pytest.mark.parametrize("output", [".", "/", "missing/t.md", "run0"])
def test_an_output_that_cannot_be_written_is_named(tmp_path, failing, monkeypatch, output):
    monkeypatch.chdir(folder(tmp_path, record()))
    assert f"mint-table: {output} cannot be written" in failing(".", "--output", output)
    assert [path.name for path in tmp_path.iterdir()] == ["run0"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_one_sentence(tmp_path):
    folder(tmp_path, record())
    command = [sys.executable, "-m", "mint_cli.report.table", str(tmp_path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the table cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("shell", ["{} | true", "{} >&-"])
def test_a_reader_that_leaves_or_was_never_there_is_no_error(tmp_path, shell):
    folder(tmp_path, record())
    command = f"'{sys.executable}' -m mint_cli.report.table '{tmp_path}'"
    shell = f"set -o pipefail; {shell.format(command)}"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_needs_neither_torch_nor_numpy_nor_hydra_nor_matplotlib(tmp_path):
    folder(tmp_path, record(), predicted([True, False]))  # one row of predictions is no pair
    heavy = "{'torch', 'numpy', 'scipy', 'hydra', 'omegaconf', 'matplotlib'} & set(sys.modules)"
    made = f"main([{str(tmp_path)!r}, '--published'])"
    code = (
        f"import sys; from mint_cli.report.table import main; {made}; assert not {heavy}, {heavy}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_of_the_package_is_this_one():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["mint-table"].partition(":")
    assert getattr(importlib.import_module(module), function) is main
