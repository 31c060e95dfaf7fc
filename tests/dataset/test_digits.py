import torch

from mint_cli.dataset.digits import digits


def test_it_has_1437_training_and_360_test_images_of_ten_classes():
    splits = digits(None, validation=200, seed=0, mean=[0.0], std=[1.0])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1237, 200, 360)
    assert splits.train.pixels.dtype == torch.uint8 and splits.train.pixels.shape[1:] == (1, 8, 8)
    assert splits.test.pixels.max() == 255 and set(splits.train.labels.tolist()) == set(range(10))
