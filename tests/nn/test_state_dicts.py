"""Parameters are torch's: same names, shapes, first values, and they move between nets."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn as dense

from sparseconv import nn
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

PAIRS = {
    "submanifold": (
        lambda: nn.SubMConv3d(4, 6, 3, groups=2),
        lambda: dense.Conv3d(4, 6, 3, padding=1, groups=2),
    ),
    "regular": (
        lambda: nn.SparseConv3d(4, 6, (1, 2, 3), 2, bias=False),
        lambda: dense.Conv3d(4, 6, (1, 2, 3), 2, bias=False),
    ),
    "transposed": (
        lambda: nn.SparseConvTranspose3d(4, 6, 3, 2, groups=2),
        lambda: dense.ConvTranspose3d(4, 6, 3, 2, groups=2),
    ),
    "inverse": (
        lambda: nn.SparseInverseConv3d(4, 6, 2),
        lambda: dense.ConvTranspose3d(4, 6, 2, 2),
    ),
    "linear": (lambda: nn.Linear(4, 6), lambda: dense.Linear(4, 6)),
    "norm": (lambda: nn.BatchNorm(4), lambda: dense.BatchNorm1d(4)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_state_dict_moves_there_and_back(name):
    ours, theirs = (make() for make in PAIRS[name])
    theirs.load_state_dict(ours.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key])
    fresh = PAIRS[name][0]()
    fresh.load_state_dict(theirs.state_dict())
    for key, value in ours.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key])


@pytest.mark.parametrize("name", PAIRS)
def test_one_seed_gives_torchs_first_values(name):
    torch.manual_seed(3)
    ours = PAIRS[name][0]()
    torch.manual_seed(3)
    theirs = PAIRS[name][1]()
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key]), key


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "double and back": lambda layer: copy.deepcopy(layer).double().float(),
    "to empty and load": lambda layer: load(layer),
}


def load(layer):
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    fresh = copy.deepcopy(layer).to_empty(device="cpu")
    fresh.load_state_dict(torch.load(stream))
    return fresh


@pytest.mark.parametrize("how", COPIES)
def test_copies_give_the_same_results_and_keep_the_memory_order(how):
    layer = nn.SubMConv3d(4, 6, 3)
    x = scene("random_sparse").tensor(4, torch.float32)
    twin = COPIES[how](layer)
    assert torch.equal(twin(x).features, layer(x).features)
    by_tap = twin.weight.permute(2, 3, 4, 1, 0)
    assert by_tap.is_contiguous(), "the kernels read taps one after the other"


def test_loading_keeps_the_memory_order():
    layer = nn.SubMConv3d(4, 6, 3)
    layer.load_state_dict(dense.Conv3d(4, 6, 3).state_dict())
    assert layer.weight.permute(2, 3, 4, 1, 0).is_contiguous()
    # assign=True takes the other net's memory: still right, if slower
    other = dense.Conv3d(4, 6, 3)
    layer.load_state_dict(other.state_dict(), assign=True)
    x = scene("random_sparse").tensor(4, torch.float32)
    full = torch.nn.functional.conv3d(x.dense(), other.weight, other.bias, padding=1)
    b, i, j, k = x.coords.long().unbind(1)
    torch.testing.assert_close(
        layer(x).features, full[b, :, i, j, k], **tolerance(torch.float32, "forward", 27 * 4)
    )


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_step_keeps_the_memory_order(optimizer):
    layer = nn.SubMConv3d(4, 6, 3)
    x = scene("random_sparse").tensor(4, torch.float32)
    step = optimizer(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer(x).features.square().mean().backward()
    step.step()
    assert not torch.equal(before, layer.weight)
    assert layer.weight.permute(2, 3, 4, 1, 0).is_contiguous()
