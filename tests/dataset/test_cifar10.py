import os
import pickle

import numpy as np
import pytest

from mint_cli.dataset.cifar10 import FOLDER, TEST, TRAIN, cifar10
from mint_cli.errors import DataError

SETTINGS = {"validation": 5, "subset": None, "seed": 0, "padding": 4, "flip": True, "mean": [0.5] * 3, "std": [0.2] * 3}


@pytest.fixture
def root(tmp_path):
    (tmp_path / FOLDER).mkdir()
    rng = np.random.default_rng(0)
    for name in TRAIN + TEST:
        batch = {b"data": rng.integers(0, 256, (4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}
        (tmp_path / FOLDER / name).write_bytes(pickle.dumps(batch, protocol=4))
    return tmp_path


def test_batches_are_joined_in_order_and_pixels_are_planes_of_red_green_blue(root):
    splits = cifar10(root, **SETTINGS)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (15, 5, 4)
    raw = pickle.loads((root / FOLDER / TEST[0]).read_bytes(), encoding="bytes")[b"data"]
    assert (splits.test.pixels[1, 2].numpy() == raw[1, 2048:].reshape(32, 32)).all()
    assert splits.train.padding == 4 and splits.test.padding == 0


def test_a_subset_keeps_the_first_images_of_both(root):
    splits = cifar10(root, **{**SETTINGS, "subset": 3, "validation": 1})
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (2, 1, 3)


@pytest.mark.parametrize("damage", ["truncate", "code"])
def test_a_damaged_batch_is_named_and_code_in_it_is_not_run(root, damage):
    victim = root / FOLDER / "data_batch_3"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {root}/executed",)

    victim.write_bytes(pickle.dumps(Evil()) if damage == "code" else victim.read_bytes()[:200])
    with pytest.raises(DataError, match="data_batch_3 is damaged"):
        cifar10(root, **SETTINGS)
    assert not (root / "executed").exists()
