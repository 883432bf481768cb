"""The rulebook as a plain struct: hold it, count it, save it, share it, turn it round."""

import io
import pickle

import pytest
import torch

import sparseconv as sc
from sparseconv.geometry import Geometry
from sparseconv.tensor.topology import Topology
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene

THREE = Geometry.submanifold(3)


def book_of(x, geometry=THREE):
    return x.topology.rulebook(x.level, x.level, geometry)


def test_counts_and_taps():
    x = scene("random_sparse").tensor(2)
    sites = oracle.sites_of(x.coords)
    pairs = oracle.triples(sites, sites, Spec.of(3, 1, 1))
    book = book_of(x)
    assert len(book) == len(pairs) and book.taps == 27
    rows = zip(
        book.in_rows.tolist(), book.out_rows.tolist(), book.tap_of_pair.tolist(), strict=True
    )
    assert set(rows) == pairs
    assert "pairs=" in repr(book)


def test_table_form():
    x = scene("random_sparse").tensor(2)
    book = book_of(x)
    table = book.table(len(x))
    assert table.shape == (len(x), 27) and table.dtype == torch.int32
    assert int((table >= 0).sum()) == len(book)
    for i, o, t in zip(book.in_rows, book.out_rows, book.tap_of_pair, strict=True):
        assert table[o, t] == i


def test_reverse_is_a_view():
    book = book_of(scene("random_sparse").tensor(2))
    back = book.reversed
    assert back.in_rows is book.out_rows and back.out_rows is book.in_rows
    assert back.reversed.in_rows is book.in_rows


def test_only_a_mirrored_one_is_symmetric():
    x = scene("random_sparse").tensor(2)
    coarse = x.topology.down(x.level, Geometry.make(2, 2))
    for source, target, geometry, symmetric in (
        (x.level, x.level, THREE, True),
        (x.level, x.level, Geometry.submanifold(2), False),
        (x.level, x.level, Geometry.make(3, 2, 1), False),
        (x.level, coarse, Geometry.make(2, 2), False),
    ):
        book = x.topology.rulebook(source, target, geometry)
        pairs = set(
            zip(
                book.in_rows.tolist(),
                book.out_rows.tolist(),
                book.tap_of_pair.tolist(),
                strict=True,
            )
        )
        mirror = {(o, i, book.taps - 1 - t) for i, o, t in pairs}
        assert book.symmetric == symmetric == (pairs == mirror)
        assert book.reversed.symmetric == symmetric
        assert book.apply(torch.clone).symmetric == symmetric


def test_a_false_claim_of_symmetry_is_refused():
    x = scene("random_sparse").tensor(2)
    book = book_of(x)
    assert book.validate(len(x), len(x)) is book
    short = book.segments.clamp(max=len(book) - 1)
    cut = sc.Rulebook(book.in_rows[:-1], book.out_rows[:-1], short, symmetric=True)
    with pytest.raises(ValueError, match=r"symmetric: expected a pair .* leave symmetric out"):
        cut.validate(len(x), len(x))
    sc.Rulebook(cut.in_rows, cut.out_rows, short).validate(len(x), len(x))


def test_layers_of_one_geometry_share_one_rulebook(backend, monkeypatch):
    from sparseconv.tensor import topology

    built = []
    for name in ("cube_rulebook", "halve", "rulebook", "pyramid"):
        build = getattr(topology, name)
        counted = lambda *a, name=name, build=build: built.append(name) or build(*a)  # noqa: E731
        monkeypatch.setattr(topology, name, counted)
    wide = {"dtype": torch.float64}
    net = sc.nn.Sequential(
        sc.nn.SubMConv3d(2, 3, 3, **wide),
        sc.nn.SubMConv3d(3, 4, 3, groups=1, bias=False, **wide),
        sc.nn.SparseConv3d(4, 4, 2, 2, **wide),
        sc.nn.SubMConv3d(4, 4, 3, **wide),
        sc.nn.SparseInverseConv3d(4, 4, 2, **wide),
        sc.nn.SubMConv3d(4, 4, 3, **wide),
        sc.nn.MaxPool3d(2),
        sc.nn.Unpool(),
    )
    x = scene("random_sparse").tensor(2)
    y = net(x)
    # fine; down and coarse
    assert built == ["pyramid", "halve"]
    assert y.shares_sites(x)
    y.features.sum()
    net(x)
    assert len(built) == 2, "a second pass builds nothing"


def test_geometries_that_differ_do_not_share(backend):
    x = scene("random_sparse").tensor(2)
    books = [
        book_of(x, Geometry.make(3, 1, padding, dilation))
        for padding, dilation in ((1, 1), (0, 1), (2, 2), (1, 2), ((0, 1, 1), 1))
    ]
    assert len({id(book) for book in books}) == len(books)
    assert len({(tuple(b.in_rows.tolist()), tuple(b.out_rows.tolist())) for b in books}) == 5


def test_save_load_and_use(backend):
    x = scene("random_sparse").tensor(2)
    layer = sc.nn.SubMConv3d(2, 3, 3, dtype=torch.float64)
    stream = io.BytesIO()
    torch.save(book_of(x), stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=True)
    assert isinstance(loaded, sc.Rulebook)
    loaded.validate(len(x), len(x))
    assert torch.equal(layer(x, rulebook=loaded).features, layer(x).features)


def test_a_rulebook_by_hand(backend):
    x = scene("line").tensor(2)
    n = len(x)
    centre = torch.arange(n, dtype=torch.int32)
    segments = torch.tensor([0] * 14 + [n] * 14)
    book = sc.Rulebook(centre, centre, segments).validate(n, n)
    layer = sc.nn.SubMConv3d(2, 3, 3, dtype=torch.float64)
    expected = x.features @ layer.weight[:, :, 1, 1, 1].T + layer.bias
    torch.testing.assert_close(layer(x, rulebook=book).features, expected)


ROWS = torch.tensor([0, 1], dtype=torch.int32)
BAD = {
    "rows dtype": (ROWS.long(), ROWS, torch.tensor([0, 2]), TypeError, "in_rows"),
    "row too large": (
        ROWS + 5,
        ROWS,
        torch.tensor([0, 2]),
        ValueError,
        "in_rows: expected rows in",
    ),
    "row below zero": (ROWS, ROWS - 1, torch.tensor([0, 2]), ValueError, "out_rows"),
    "end": (ROWS, ROWS, torch.tensor([0, 3]), ValueError, "segments"),
    "start": (ROWS, ROWS, torch.tensor([1, 2]), ValueError, "segments"),
    "order": (ROWS, ROWS, torch.tensor([0, 2, 1, 2]), ValueError, "segments"),
    "segments dtype": (ROWS, ROWS, torch.tensor([0, 2]).int(), ValueError, "segments"),
    "lengths": (ROWS, ROWS[:1], torch.tensor([0, 2]), ValueError, "segments|out_rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_validate_refuses(name):
    in_rows, out_rows, segments, error, words = BAD[name]
    with pytest.raises(error, match=words):
        sc.Rulebook(in_rows, out_rows, segments).validate(2, 2)


def test_sites_checked_for_repeats_are_not_sorted_again(backend):
    x = scene("random_sparse").tensor(2)
    order = x.topology.orders.get(x.level)
    assert (order is None) == (backend == "reference")
    known = book_of(x)
    assert not x.topology.orders, "used up by the pyramid"
    fresh = sc.SparseTensor.at(Topology.of(x.topology.levels[x.level]), x.level, x.features)
    assert torch.equal(book_of(fresh).in_rows, known.in_rows)
    again = pickle.loads(pickle.dumps(scene("random_sparse").tensor(2)))
    assert torch.equal(book_of(again).out_rows, known.out_rows)
