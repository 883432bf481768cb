"""A rulebook in the user's hands: built, counted, saved, shared, of any offsets."""

import io

import pytest
import torch

import sparseconv as sc
from sparseconv.tensor.rulebook import Rulebook

COORDS = torch.tensor(
    [[0, 0, 0, 0], [0, 2, -1, 3], [1, 0, 0, 0], [0, 0, 0, 1], [0, 3, -1, 3]], dtype=torch.int32
)


@pytest.fixture
def x():
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    return sc.SparseTensor(COORDS, features)


def test_layers_share_the_rulebook_of_their_kernel(x):
    book = sc.rulebook(x, 3)
    layer = sc.nn.SubMConv3d(4, 2, 3)
    layer(x)
    assert x.topology.rulebook(x.level, x.level, layer.geometry) is book
    assert len(x.topology.rulebooks) == 1


def test_any_offsets_equal_a_plain_search(x):
    offsets = [(2, -1, 3), (0, 0, 0), (-1, 0, 0), (7, 7, 7)]
    book = sc.rulebook(x, offsets=offsets)
    sites = [tuple(site) for site in COORDS.tolist()]
    expected = [
        (tap, sites.index(read), row)
        for tap, offset in enumerate(offsets)
        for row, (b, *xyz) in enumerate(sites)
        if (read := (b, *(v + d for v, d in zip(xyz, offset, strict=True)))) in sites
    ]
    columns = (book.tap_of_pair.tolist(), book.in_rows.tolist(), book.out_rows.tolist())
    assert list(zip(*columns, strict=True)) == expected


def test_convolve_with_offsets_equals_the_sum_of_its_taps(x):
    weight = torch.randn(2, 4, 3)
    bias = torch.randn(3)
    book = sc.rulebook(x, offsets=[(0, 0, 1), (1, 0, 0)])
    y = sc.convolve(x, weight, bias, book)
    expected = bias.expand(5, 3).clone()
    for tap, i, o in zip(book.tap_of_pair, book.in_rows, book.out_rows, strict=True):
        expected[o] += x.features[i] @ weight[tap]
    torch.testing.assert_close(y.features, expected)
    assert y.shares_sites(x)


def test_onto_other_sites_and_saved(x):
    targets = sc.SparseTensor(COORDS[:2], torch.zeros(2, 1), batch_size=2)
    book = sc.rulebook(x, 3, sites=targets)
    buffer = io.BytesIO()
    torch.save(book, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert isinstance(loaded, Rulebook)
    layer = sc.nn.SparseConv3d(4, 2, 3, padding="same", bias=False)
    weight = layer.weight.permute(2, 3, 4, 1, 0).reshape(27, 4, 2)
    ours = sc.convolve(x, weight, None, loaded.validate(5, 2), targets)
    torch.testing.assert_close(ours.features, layer(x, sites=targets).features)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "kernel_size, offsets: expected one of the two, found neither"),
        ({"kernel_size": 3, "offsets": [(0, 0, 0)]}, "found both"),
        ({"offsets": [0, 0, 0]}, r"offsets: expected integers \[K, 3\]"),
        ({"offsets": [(0.5, 0, 0)]}, r"offsets: expected integers \[K, 3\]"),
        ({"kernel_size": 3, "stride": 2}, "padding"),
    ],
)
def test_refusals(x, options, words):
    with pytest.raises(ValueError, match=words):
        sc.rulebook(x, **options)


def test_a_rulebook_of_other_sites_is_refused(x):
    few = sc.SparseTensor(COORDS[:2], torch.ones(2, 4))
    with pytest.raises((ValueError, IndexError), match="rows"):
        sc.nn.SubMConv3d(4, 2, 3)(few, rulebook=sc.rulebook(x, 3))
