"""The sparse tensor as a value."""

import copy
import io
import pickle

import pytest
import torch

import sparseconv as sc
from sparseconv.testing import oracle, scenes
from sparseconv.testing.scenes import scene

COORDS = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 0]], dtype=torch.int32)
ONES = torch.ones(2, 3)


@pytest.mark.parametrize("name", scenes.UNIQUE)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_rows_stay_as_given(name, dtype):
    view = scene(name)
    x = sc.SparseTensor(
        view.coords.to(dtype), view.features(2), view.spatial_shape, view.batch_size
    )
    assert torch.equal(x.coords, view.coords) and x.coords.dtype == torch.int32
    assert torch.equal(x.features, view.features(2))
    assert (len(x), x.batch_size, x.spatial_shape) == (
        len(view.coords),
        view.batch_size,
        view.spatial_shape,
    )
    assert (x.stride, x.device.type, x.dtype) == ((1, 1, 1), "cpu", torch.float64)


def test_batch_size_is_counted_or_given():
    assert sc.SparseTensor(COORDS, ONES).batch_size == 2
    assert sc.SparseTensor(COORDS, ONES, batch_size=5).batch_size == 5
    assert sc.SparseTensor(COORDS[:0], ONES[:0]).batch_size == 0
    assert sc.SparseTensor(COORDS[:0], ONES[:0], batch_size=3).batch_size == 3


REFUSED = {
    "float coords": (
        lambda: sc.SparseTensor(COORDS.float(), ONES),
        TypeError,
        "coords: .*voxelize",
    ),
    "three columns": (
        lambda: sc.SparseTensor(COORDS[:, 1:], ONES),
        ValueError,
        r"coords: expected shape \[N, 4\], found int32 \[2, 3\]",
    ),
    "int features": (lambda: sc.SparseTensor(COORDS, ONES.int()), TypeError, "features: .*float"),
    "rows": (
        lambda: sc.SparseTensor(COORDS, ONES[:1]),
        ValueError,
        r"features: expected .*\[2, C\]",
    ),
    "one axis": (lambda: sc.SparseTensor(COORDS, ONES[:, 0]), ValueError, "features: expected"),
    "beyond int32": (
        lambda: sc.SparseTensor(COORDS.long() + 2**31, ONES),
        ValueError,
        "coords: expected numbers within int32.*subtract an origin",
    ),
    "below int32": (
        lambda: sc.SparseTensor(COORDS.long() - torch.tensor([0, 2**31 + 9, 0, 0]), ONES),
        ValueError,
        "within int32",
    ),
    "negative batch": (
        lambda: sc.SparseTensor(COORDS - torch.tensor([1, 0, 0, 0]).int(), ONES),
        ValueError,
        "coords: expected a batch column",
    ),
    "batch size": (
        lambda: sc.SparseTensor(COORDS, ONES, batch_size=1),
        ValueError,
        r"coords: expected a batch column in 0\.\.0.*found 0\.\.1",
    ),
    "negative batch size": (
        lambda: sc.SparseTensor(COORDS, ONES, batch_size=-1),
        ValueError,
        "batch_size: expected",
    ),
    "outside": (
        lambda: sc.SparseTensor(COORDS, ONES, (2, 3, 3)),
        ValueError,
        r"coords: expected z in 0\.\.2.*leave spatial_shape out",
    ),
    "negative inside": (
        lambda: sc.SparseTensor(COORDS - torch.tensor([0, 1, 0, 0]).int(), ONES, 5),
        ValueError,
        "coords: expected x in",
    ),
    "duplicates": (
        lambda: scene("duplicates").tensor(3),
        ValueError,
        "coords: expected every site once, found .* repeated, such as.*duplicates=",
    ),
    "duplicates word": (
        lambda: sc.SparseTensor(COORDS, ONES, duplicates="max"),
        ValueError,
        "duplicates: expected one of",
    ),
    "stride": (lambda: sc.SparseTensor(COORDS, ONES, stride=0), ValueError, "stride: expected"),
    "replace": (
        lambda: sc.SparseTensor(COORDS, ONES).replace(features=ONES[:1]),
        ValueError,
        r"features: expected \[2, C\].*Pruning",
    ),
    "lookup": (
        lambda: sc.SparseTensor(COORDS, ONES).lookup(COORDS.float()),
        TypeError,
        "coords: expected",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("how", ["sum", "mean", "first"])
def test_duplicates_are_reduced_when_asked(backend, how):
    view = scene("duplicates")
    x = sc.SparseTensor(view.coords, view.features(2), batch_size=2, duplicates=how)
    rows = {}
    for row, site in enumerate(map(tuple, view.coords.tolist())):
        rows.setdefault(site, []).append(row)
    ordered = sorted(rows, key=oracle.z_place)
    assert oracle.sites_of(x.coords) == ordered
    reduce = {"sum": lambda f: f.sum(0), "mean": lambda f: f.mean(0), "first": lambda f: f[0]}[how]
    for site, found in zip(ordered, x.features, strict=True):
        torch.testing.assert_close(found, reduce(view.features(2)[rows[site]]))


def test_a_tensor_is_a_value():
    x = sc.SparseTensor(COORDS, ONES)
    with pytest.raises(AttributeError, match="replace"):
        x.features = ONES
    with pytest.raises(AttributeError, match="replace"):
        x.coords = COORDS
    y = x
    y += x
    assert (x.features == 1).all() and (y.features == 2).all()


def test_replace_keeps_the_topology():
    x = scene("random_sparse").tensor(3)
    y = x.replace(features=torch.zeros(len(x), 7))
    assert y.topology is x.topology and y.shares_sites(x) and y.coords is x.coords
    assert y.channels == 7 and x.channels == 3


@pytest.mark.parametrize("name", scenes.UNIQUE)
def test_lookup(backend, name):
    x = scene(name).tensor(1)
    rows = x.lookup(x.coords)
    assert rows.dtype == torch.int64 and rows.tolist() == list(range(len(x)))
    elsewhere = torch.tensor([[0, 7, 7, 7], [9, 0, 0, 0], [0, 2**40, 0, 0], [0, -(2**40), 0, 0]])
    assert x.lookup(elsewhere)[1:].tolist() == [-1, -1, -1]
    assert x.lookup(elsewhere.int()[:0]).shape == (0,)


def test_to_and_detach():
    x = scene("random_sparse").tensor(3)
    for y in (x.to(torch.float32), x.to("cpu"), x.cpu(), x.to(x.features)):
        assert y.shares_sites(x)
    assert x.to(torch.bfloat16).dtype == torch.bfloat16
    x = x.replace(features=x.features.requires_grad_())
    assert x.requires_grad and not x.detach().requires_grad


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "save": lambda x: saved(x),
}


def saved(x):
    stream = io.BytesIO()
    torch.save(x, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_whole_and_still_convolve(how):
    x = scene("random_sparse").tensor(3)
    down = sc.nn.SparseConv3d(3, 3, 2, 2, dtype=torch.float64)
    up = sc.nn.SparseInverseConv3d(3, 3, 2, dtype=torch.float64)
    y = down(x)
    twin = COPIES[how](y.detach())
    assert sc.compare(twin, y).equal and sc.compare(twin, y).same_order
    torch.testing.assert_close(up(twin).features, up(y).features)
    assert twin.lookup(y.coords).tolist() == list(range(len(y)))


def test_repr_says_what_matters():
    text = repr(scene("random_sparse").tensor(3))
    assert "sites=144" in text and "channels=3" in text and "batch_size=3" in text
