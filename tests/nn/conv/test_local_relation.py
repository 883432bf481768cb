"""Local relation against its formula written out, with all gradients; identities and refusals."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing import laws, neighbours
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins

CLOSE = tolerance(torch.float64, "formula")
PHI = {
    "sqdiff": lambda q, k: -((q - k) ** 2),
    "absdiff": lambda q, k: -(q - k).abs(),
    "dot": lambda q, k: q * k,
}


def formula(layer, x, out, stride, taps, reach):
    """Equation 2, over all neighbours of every output site."""
    rows = neighbours.table(x.coords, out, taps, stride)
    groups = layer.groups
    w, b = layer.query_key.weight, layer.query_key.bias
    wq, wk = w[:groups], w[groups:]
    bq, bk = (0, 0) if b is None else (b[:groups], b[groups:])
    centre = []
    known = {tuple(c): n for n, c in enumerate(x.coords.tolist())}
    for item, *at in out.tolist():
        if (row := known.get((item, *(stride * a for a in at)))) is not None:
            centre.append(x.features[row])
        else:
            block = [n for c, n in known.items() if c[0] == item
                     and [v // stride for v in c[1:]] == at]  # fmt: skip
            centre.append(x.features[block].mean(0))
    q = torch.stack(centre) @ wq.t() + bq
    k = neighbours.gathered(x.features @ wk.t() + bk, rows)
    first, _, second = layer.geometric
    f = dense.linear(dense.linear(torch.tensor(taps) / torch.tensor(reach).double(), first.weight,
                                  first.bias).relu(), second.weight)  # fmt: skip
    logits = layer.scale * PHI[layer.similarity](q[:, None], k) + f
    logits = logits.masked_fill((rows < 0)[..., None], -torch.inf)
    shares = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    read = neighbours.gathered(x.features, rows)
    y = torch.einsum("mkg,mkgc->mgc", shares, read.unflatten(2, (groups, -1))).flatten(1)
    return dense.linear(y, layer.out.weight, layer.out.bias), shares


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel", "negative"])
@pytest.mark.parametrize("similarity", PHI)
def test_formula(backend, name, similarity):
    x = scene(name).tensor(6)
    x.features.requires_grad_()
    layer = nn.LocalRelation3d(
        6, 3, 2, similarity=similarity, scale=0.7, bias=name != "negative", dtype=torch.float64
    )
    expected, shares = formula(layer, x, x.coords, 1, neighbours.offsets(3), (1, 1, 1))
    y = layer(x)
    assert y.coords is x.coords
    assert_twins(y.features, expected, [x.features, *layer.parameters()], **CLOSE)
    found = layer.shares(x)
    torch.testing.assert_close(found, shares)
    torch.testing.assert_close(found.sum(1), torch.ones(len(x), 3).double())


def test_reach_of_other_shapes(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.LocalRelation3d(4, (1, 3, 5), 2, dilation=(1, 2, 1), out_channels=3).double()
    taps = neighbours.offsets((1, 3, 5), (1, 2, 1))
    expected, _ = formula(layer, x, x.coords, 1, taps, (1, 2, 2))
    assert_twins(layer(x).features, expected, list(layer.parameters()), **CLOSE)


@pytest.mark.parametrize("name", ["random_sparse", "negative"])
@pytest.mark.parametrize("stride", [2, 3])
def test_stride(backend, name, stride):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.LocalRelation3d(4, 5, 4, stride, dtype=torch.float64)
    y = layer(x)
    blocks = {(b, *(v // stride for v in at)) for b, *at in x.coords.tolist()}
    assert {tuple(c) for c in y.coords.tolist()} == blocks
    expected, _ = formula(layer, x, y.coords, stride, neighbours.offsets(5), (2, 2, 2))
    assert_twins(y.features, expected, [x.features, *layer.parameters()], **CLOSE)


def test_a_site_whose_kernel_meets_nothing_gets_the_bias(backend):
    x = scene("one_voxel").tensor(4)
    y = nn.LocalRelation3d(4, 1, 4, 3, dtype=torch.float64)
    assert torch.equal(y(x).features, y.out.bias[None])


def test_nothing_to_tell_neighbours_apart_is_their_mean(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.LocalRelation3d(4, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        for p in (*layer.query_key.parameters(), *layer.geometric[2].parameters()):
            p.zero_()
    rows = neighbours.table(x.coords, x.coords, neighbours.offsets(3))
    mean = neighbours.gathered(x.features, rows).sum(1) / (rows >= 0).sum(1, keepdim=True)
    expected = dense.linear(mean, layer.out.weight, layer.out.bias)
    torch.testing.assert_close(layer(x).features, expected)


def test_a_site_that_looks_at_itself_alone_is_mapped_alone(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.LocalRelation3d(4, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        # relu(1 - |position|) times a lot: 0 but at the centre
        first, _, second = layer.geometric
        first.weight.zero_(), first.bias.zero_(), second.weight.fill_(-1e4)
        first.weight[:3], first.weight[3:6] = torch.eye(3), -torch.eye(3)
    expected = dense.linear(x.features, layer.out.weight, layer.out.bias)
    torch.testing.assert_close(layer(x).features, expected)


def test_far_apart_logits_stay_finite(backend):
    x = scene("random_sparse").tensor(4, torch.float32)
    layer = nn.LocalRelation3d(4, 3, 2, scale=1e6)
    y = layer(x).features
    y.sum().backward()
    assert y.isfinite().all() and all(p.grad.isfinite().all() for p in layer.parameters())


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = nn.LocalRelation3d(4, 3, 2, dtype=torch.float64)
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (3, -2, 1))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"kernel_size": 4}, "kernel_size: expected odd sizes"),
        ({"m": 3}, "m: expected a divisor of 8 channels, found 3"),
        ({"scale": -1.0}, "scale: expected a number from 0 on, found -1.0"),
        ({"similarity": "cosine"}, "similarity: expected 'sqdiff', 'absdiff' or 'dot'"),
    ],
)
def test_refusals(kind, words):
    with pytest.raises(ValueError, match=words):
        nn.LocalRelation3d(8, **kind)


def test_refused_input():
    with pytest.raises(ValueError, match="input of LocalRelation3d: expected 8 channels, found 4"):
        nn.LocalRelation3d(8)(scene("line").tensor(4))
