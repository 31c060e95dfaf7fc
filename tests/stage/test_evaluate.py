"""What a network is worth, image by image."""

from functools import partial
from pathlib import Path

import pytest
import torch
from experiments import MLP, network, stripes

from mint_cli.errors import DataError
from mint_cli.stage.common import Data, Network, prefixed
from mint_cli.stage.evaluate import evaluate
from mint_cli.store import Artifact


def artifact(model):
    return Artifact(prefixed("state", model.state_dict()), {}, 0.0)


def test_accuracy_and_loss_are_those_of_all_images_and_the_classes_are_kept(context):
    own = network(seed=4, validation=40)
    model = own.build()
    tensors, metrics = evaluate(own, artifact(model), context)
    for name in ("test", "validation"):
        images = getattr(own.data.splits, name)
        with torch.no_grad():
            logits = model(images.pixels.float() / 255)
        assert torch.equal(tensors[f"predicted/{name}"], logits.argmax(1).int())
        accuracy = float((logits.argmax(1) == images.labels).double().mean())
        assert metrics[name]["accuracy"] == accuracy
        loss = torch.nn.functional.cross_entropy(logits, images.labels).item()
        assert metrics[name]["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_split_without_images_has_no_figures(context):
    tensors, metrics = evaluate(network(), artifact(network().build()), context)
    assert metrics["validation"] is None and list(tensors) == ["predicted/test"]
    assert set(metrics) == {"test", "validation"}


def test_a_network_whose_outputs_overflow_is_told_with_the_split(context):
    model = network().build()
    with torch.no_grad():
        model.fc2.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="the loss on the test images is nan"):
        evaluate(network(), artifact(model), context)


def test_the_network_is_measured_with_the_data_it_is_built_for(context):
    other = Network(Data(partial(stripes, validation=0), Path()), MLP, 5, 1)
    found = evaluate(other, artifact(network(seed=4).build()), context)[1]
    wanted = evaluate(network(seed=4), artifact(network(seed=4).build()), context)[1]
    assert found == wanted  # the seed of a network is that of its initial weights alone
