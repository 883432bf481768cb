"""The list of pairs by row that a rulebook keeps for depthwise layers."""

import copy
import io

import pytest
import torch

import sparseconv as sc
from sparseconv.tensor import rulebook
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins


@pytest.fixture
def made(monkeypatch):
    """The lists that were made, in order."""
    found = []

    def note(*args):
        found.append(real(*args))
        return found[-1]

    real = rulebook.pairs_by_row
    monkeypatch.setattr(rulebook, "pairs_by_row", note)
    return found


def test_layers_and_calls_share_a_list(backend, made):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layers = [sc.nn.SubMConv3d(4, 4, 3, groups=4, dtype=torch.float64) for _ in range(2)]
    for layer in layers * 2:
        layer(x).features.sum().backward()
    assert len(made) == 1
    sc.nn.SubMConv3d(4, 8, 3, groups=2, dtype=torch.float64)(x)
    assert len(made) == 1, "other layers make none"


def test_there_and_back(backend, made):
    net = sc.nn.Sequential(
        sc.nn.SparseConv3d(4, 4, 2, 2, groups=4, dtype=torch.float64),
        sc.nn.SparseInverseConv3d(4, 4, 2, groups=4, dtype=torch.float64),
    )
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    y = net(x).features
    assert len(made) == 2, "by output row, and by input row"
    z = net(x).features
    assert len(made) == 2 and torch.equal(y, z)
    plain = copy.deepcopy(net)
    for layer in plain:
        layer.groups = 1
        full = torch.zeros(4, 4, 2, 2, 2, dtype=torch.float64)
        full[range(4), range(4)] = layer.weight.detach()[:, 0]
        layer.weight = torch.nn.Parameter(full)
    assert_twins(y, plain(x).features, [x.features])


def test_a_list_is_neither_saved_nor_sent(made):
    x = scene("random_sparse").tensor(4)
    layer = sc.nn.SubMConv3d(4, 4, 3, groups=4, dtype=torch.float64)
    y = layer(x).features
    (book,) = x.topology.rulebooks.values()
    stream = io.BytesIO()
    torch.save(book, stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=True)
    for other in (loaded, book.apply(torch.clone), copy.deepcopy(book)):
        assert book.lists and not other.lists
        assert torch.equal(layer(x, rulebook=other).features, y)
    assert len(made) == 4
    x.share_memory_()
    assert torch.equal(layer(x).features, y)


def test_one_rulebook_for_more_rows(made):
    book = sc.Rulebook(torch.tensor([1, 0]).int(), torch.tensor([0, 1]).int(), torch.tensor([0, 2]))
    assert len(book.by_row(3)) == len(book.by_row(2)) + 1
    assert book.by_row(2) is book.by_row(2)
    assert torch.equal(book.reversed.reversed.by_row(2), book.by_row(2)) and len(made) == 2


def test_a_list_made_for_inference_serves_training(backend):
    x = scene("random_sparse").tensor(4)
    layer = sc.nn.SubMConv3d(4, 4, 3, groups=4, dtype=torch.float64)
    with torch.inference_mode():
        layer(x)
    layer(x).features.sum().backward()
    assert layer.weight.grad is not None


def test_compiled_whole():
    net = sc.nn.Sequential(
        sc.nn.SparseConv3d(2, 2, 2, 2, groups=2), sc.nn.SparseInverseConv3d(2, 2, 2, groups=2)
    )
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="eager")
    x, twin = (scene("random_sparse").tensor(2, torch.float32) for _ in range(2))
    expected = net(twin).features
    for _ in range(2):
        assert torch.equal(compiled(x).features, expected)
