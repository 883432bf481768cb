"""The shuffled grouped layer: torch's grouped convolution, then view and transpose."""

import pytest
import torch

from sparseconv import nn
from sparseconv.functional.shuffle import shuffle_channels
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize(
    "place", [(1, 1, 0, 1), (3, 1, "subm", 2), (2, 2, 0, 1), (1, 2, 0, 1), (1, 1, 1, 1)], ids=str
)
@pytest.mark.parametrize("groups", [2, 3])
def test_values_and_gradients(backend, place, groups):
    x = scene("random_sparse").tensor(6)
    x.features.requires_grad_()
    layer = nn.ShuffledGroupConv3d(6, 12, groups, *place, bias=groups == 3, **WIDE)
    kernel, stride, padding, dilation = place
    spec = Spec.of(kernel, stride, "same" if padding == "subm" else padding, dilation)
    full = oracle.dense_conv(grid_of(x), layer.conv.weight, layer.conv.bias, spec, groups)
    # output j G + i is output j of group i
    n = 12 // groups
    full = torch.stack([full[:, i * n + j] for j in range(n) for i in range(groups)], 1)
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


def test_shuffled_twice_is_as_before():
    x = scene("backwards").tensor(12)
    back = shuffle_channels(shuffle_channels(x, 3), 4)
    assert torch.equal(back.features, x.features)
    assert not torch.equal(shuffle_channels(x, 3).features, x.features)
    grid = grid_of(x)
    assert torch.equal(shuffle_channels(shuffle_channels(grid, 3), 4), grid)


def test_two_layers_connect_all_channels(backend):
    x = scene("random_sparse").tensor(9)
    x.features.requires_grad_()
    plain = nn.Sequential(*(nn.GroupPointwiseConv3d(9, 9, 3, **WIDE) for _ in range(2)))
    shuffled = nn.Sequential(*(nn.ShuffledGroupConv3d(9, 9, 3, **WIDE) for _ in range(2)))
    for net, reached in ((plain, 3), (shuffled, 9)):
        (grad,) = torch.autograd.grad(net(x).features[:, 0].sum(), x.features)
        assert int((grad != 0).any(0).sum()) == reached


def test_refusals():
    with pytest.raises(ValueError, match="groups"):
        nn.ShuffledGroupConv3d(6, 8, 3)
    with pytest.raises(ValueError, match="groups: expected a divisor of 6 channels, found 4"):
        shuffle_channels(scene("line").tensor(6), 4)
