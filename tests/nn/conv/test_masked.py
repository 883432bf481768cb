"""Masked convolutions: torch's with a masked weight, and nothing known of what comes later."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


def masked(weight, kind, colours, channels):
    """Zero what the formula hides, entry by entry."""
    width, per_group, kx, ky, kz = weight.shape
    mask = torch.zeros_like(weight)
    centre = (kx // 2, ky // 2, kz // 2)
    split = width // (channels // per_group)
    for d, c, *tap in torch.cartesian_prod(*(torch.arange(n) for n in weight.shape)).tolist():
        mine, its = d * colours // width, (d // split * per_group + c) * colours // channels
        seen = its < mine or (kind == "B" and its == mine)
        mask[(d, c, *tap)] = tuple(tap) < centre or (tuple(tap) == centre and seen)
    return weight * mask


CASES = [
    (3, "A", 1, 1, 1),
    (3, "B", 1, 1, 1),
    (3, "A", 3, 1, 1),
    (3, "B", 3, 2, 1),
    (3, "B", 2, 1, 3),
    ((1, 3, 5), "A", 2, 1, 2),
    ((3, 1, 3), "B", 1, (2, 1, 1), 1),
    (1, "A", 3, 1, 1),
    (1, "A", 1, 1, 1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["backwards", "empty_batch_item"])
def test_values_and_gradients(backend, name, case):
    kernel, kind, colours, dilation, groups = case
    x = scene(name).tensor(6)
    x.features.requires_grad_()
    layer = nn.MaskedConv3d(6, 12, kernel, kind, colours, dilation, groups, **WIDE)
    g = layer.geometry
    weight = masked(layer.weight, kind, colours, 6)
    full = dense.conv3d(grid_of(x), weight, layer.bias, 1, g.padding, g.dilation, groups)
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


@pytest.mark.parametrize(("kind", "colours", "live"), [("A", 1, 13), ("B", 1, 14), ("A", 3, 14)])
def test_only_live_taps_are_read(kind, colours, live):
    layer = nn.MaskedConv3d(3, 3, 3, kind, colours, **WIDE)
    assert layer.live_taps == live
    # what lies behind them is not multiplied by 0, which would spread NaN, but not read
    with torch.no_grad():
        layer.weight.flatten(2)[:, :, live:] = torch.nan
    assert not layer(scene("full_cube").tensor(3)).features.isnan().any()


def test_the_rulebook_is_the_one_of_other_layers(backend):
    x = scene("random_sparse").tensor(4)
    nn.MaskedConv3d(4, 4, 3, "B", **WIDE)(nn.SubMConv3d(4, 4, 3, **WIDE)(x))
    assert len(x.topology.rulebooks) == 1


@pytest.mark.parametrize("name", ["random_sparse", "full_cube"])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_stack_is_causal(backend, name, colours):
    view = scene(name)
    x = view.tensor(3)
    x.features.requires_grad_()
    stack = nn.Sequential(
        nn.MaskedConv3d(3, 6, 3, "A", colours, **WIDE),
        nn.ReLU(),
        nn.MaskedConv3d(6, 6, 3, "B", colours, **WIDE),
        nn.ReLU(),
        nn.MaskedConv3d(6, 3, 3, "B", colours, **WIDE),
    )
    torch.nn.init.ones_(stack[0].bias)
    y = stack(x).features
    order = {tuple(site): row for row, site in enumerate(view.coords.tolist())}
    ranks = sorted(order)
    reads = 0
    for rank in range(0, len(ranks), max(len(ranks) // 12, 1)):
        row = order[ranks[rank]]
        later = [order[site] for site in ranks[rank + 1 :]]
        for channel in range(3):
            (grad,) = torch.autograd.grad(y[row, channel], x.features, retain_graph=True)
            assert not grad[later].any()
            mine = channel * colours // 3
            hidden = [c for c in range(3) if c * colours // 3 >= mine]
            assert not grad[row, hidden].any()
            if colours == 3:
                reads += int(grad[row, :channel].ne(0).sum())
            reads += int(grad.ne(0).sum())
    assert reads > 0, "the stack reads something"


def test_hidden_weights_stay_hidden(backend):
    # weight decay, or a loaded state, sets what the mask hides
    x = scene("backwards").tensor(4)
    layer = nn.MaskedConv3d(4, 4, 3, "A", 2, **WIDE)
    before = layer(x).features
    with torch.no_grad():
        layer.weight += (layer.mask == 0) * 1000.0
    assert torch.equal(layer(x).features, before)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_all_taps_of_a_symmetric_rulebook_stay_symmetric():
    x = scene("random_sparse").tensor(4)
    nn.MaskedConv3d(4, 4, 3, "B", **WIDE)(x)
    (book,) = x.topology.rulebooks.values()
    assert book.symmetric and book.taps == 27
    assert len(book) == int(book.segments[-1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel_size": 4}, "kernel_size: expected odd numbers"),
        ({"mask_type": "C"}, "mask_type: expected 'A' or 'B', found 'C'"),
        ({"n_groups": 4}, "n_groups: expected a divisor of in_channels 6"),
        ({"groups": 4}, "groups"),
    ],
)
def test_refusals(change, words):
    given = {"in_channels": 6, "out_channels": 6, "kernel_size": 3, "mask_type": "A", **change}
    with pytest.raises(ValueError, match=words):
        nn.MaskedConv3d(**given)
