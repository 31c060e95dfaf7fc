"""What went wrong, in one sentence."""

import errno

import pytest
import torch

from mint_cli.errors import DataError, SettingError, Unreachable, owned, sentence, shortened


def test_a_setting_error_is_a_sentence_of_setting_bound_value_and_hint():
    error = SettingError("ridge", "must be above 0", 0, "inputs that never vary have no weights")
    assert str(error) == "ridge must be above 0, not 0; inputs that never vary have no weights"
    assert (error.setting, error.bound, error.value) == ("ridge", "must be above 0", 0)
    assert isinstance(error, ValueError)


def test_a_value_that_is_not_given_is_not_told_and_none_is():
    assert str(SettingError("skip", "leaves no layer to prune")) == "skip leaves no layer to prune"
    assert str(SettingError("sparsity", "must be a number", None)).endswith(", not None")


def test_owners_stand_before_the_setting_from_the_outermost_in():
    with pytest.raises(SettingError) as refusal, owned("criterion"), owned("estimator"):
        raise SettingError("splits", "must be at least 1", 0)
    assert str(refusal.value) == "criterion.estimator.splits must be at least 1, not 0"


def test_an_owner_changes_no_other_error():
    with pytest.raises(DataError, match="^it is broken$"), owned("criterion"):
        raise DataError("it is broken")


def test_values_too_long_to_read_are_cut():
    assert shortened("x" * 200) == "x" * 200 and shortened("x" * 201) == "x" * 200 + "…"
    assert shortened(10**5000) == "a number of thousands of digits"
    assert len(str(SettingError("seed", "must be small", 10**5000))) < 100


def test_more_than_may_go_tells_how_many_may():
    error = Unreachable(17)
    assert error.most == 17 and "17" in str(error)


def test_settings_data_and_files_are_told_in_a_sentence_and_what_is_a_fault_of_ours_is_not():
    assert sentence(SettingError("a", "must be b", 3)) == "a must be b, not 3"
    assert sentence(DataError("it is broken")) == "it is broken"
    full = OSError(errno.ENOSPC, "No space left on device", "/some/file")
    assert sentence(full) == "cannot use /some/file: No space left on device"
    assert sentence(OSError(errno.EIO, "?")) == "cannot use a file: Input/output error"
    assert sentence(ValueError("a bug")) is None and sentence(OSError("a bug")) is None


def test_a_full_gpu_is_told_with_what_to_lower():
    told = sentence(torch.OutOfMemoryError("CUDA out of memory"))
    assert "the GPU ran out of memory" in told and "batch_size" in told
