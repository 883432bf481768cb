from itertools import product

import numpy as np
import pytest
import torch

from sparseconv.cli.cost import costs, net_memory, telling_sizes
from sparseconv.models.mink_unet import MinkUNet, MinkUNetSmall


def test_voxels_and_neighbours_are_those_of_a_plain_count(cloud):
    cost = next(iter(costs(cloud, [0.4])))
    low = cloud.xyz.min(axis=0)
    sites = {tuple(site) for site in np.floor((cloud.xyz - low) / 0.4).astype(int).tolist()}
    around = [
        sum(tuple(np.add(site, step)) in sites for step in product((-1, 0, 1), repeat=3))
        for site in sites
    ]
    assert cost.voxels == len(sites)
    assert cost.neighbours == pytest.approx(np.mean(around))


def test_large_nets_and_small_voxels_need_more(cloud):
    fine, coarse = costs(cloud, [0.2, 1.0])
    assert fine.small > coarse.small
    assert fine.standard > fine.small
    assert coarse.standard > coarse.small


@pytest.mark.parametrize("net", [MinkUNetSmall, MinkUNet])
def test_an_empty_scan_costs_the_weights(net):
    with torch.device("meta"):
        made = net(4, 20)
    weights = sum(parameter.numel() for parameter in made.parameters())
    assert net_memory(made, [0] * 5, [0] * 5) == 4 * weights


def test_memory_is_the_formula_of_the_docstring():
    with torch.device("meta"):
        net = MinkUNet(1, 2, channels=(4, 8, 6), blocks=1)
    weights = sum(parameter.numel() for parameter in net.parameters())
    # level 0 keeps 4 channels, joins 6 + 4 and makes 6; level 1 keeps 8
    steady = (4 * 100 * 4 + 48 * 100 + 8 * (700 + 100)) + (4 * 30 * 8 + 48 * 30 + 8 * (200 + 30))
    working = max(4 * 100 * (10 + 4 * 6), 4 * 30 * (16 + 4 * 8))
    assert net_memory(net, [100, 30], [700, 200]) == int(4 * weights + 1.75 * (steady + working))


def test_sizes_are_round_and_begin_where_points_share_voxels():
    grid = np.stack(np.meshgrid(*[np.arange(20) * 0.03] * 3), axis=-1).reshape(-1, 3)
    sizes = telling_sizes(grid)
    assert sizes == [0.05, 0.1, 0.2, 0.5]
    assert telling_sizes(np.zeros((3, 3))) == [1.0]
