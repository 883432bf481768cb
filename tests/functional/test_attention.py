"""Attention among the sites of each scan, against the whole matrix of one scan after the other."""

import pytest
import torch

import sparseconv as sc
from sparseconv.backends.reference import attention as plain
from sparseconv.functional.attention import attention
from sparseconv.ops.attention import ragged_attention
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance

CLOSE = tolerance(torch.float64, "formula")


def by_matrix(q, k, v, item_of_query, item_of_key, scale):
    """Softmax over the keys of the query's item, the whole matrix at once."""
    logits = torch.einsum("ihe,jhe->hij", q, k) * scale
    strangers = item_of_query[:, None] != item_of_key[None, :]
    return torch.einsum("hij,jhf->ihf", logits.masked_fill(strangers, -torch.inf).softmax(2), v)


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel", "backwards"])
@pytest.mark.parametrize("widths", [(3, 3), (5, 2), (2, 6)])
def test_each_scan_attends_to_itself(backend, name, widths):
    x = scene(name).tensor(1)
    q, k, v = (torch.randn(len(x), 2, w, dtype=torch.float64) for w in (*widths[:1] * 2, widths[1]))
    given = [t.requires_grad_() for t in (q, k, v)]
    item = x.coords[:, 0]
    y = attention(q, k, v, x, x, 0.6)
    expected = by_matrix(q, k, v, item, item, 0.6)
    torch.testing.assert_close(y, expected, **CLOSE)
    probe = torch.randn_like(expected)
    found = torch.autograd.grad(y, given, probe)
    for a, b in zip(found, torch.autograd.grad(expected, given, probe), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_keys_of_another_level(backend):
    x = scene("random_sparse").tensor(1)
    coarse = sc.nn.MaxPool3d(2)(x)
    q = torch.randn(len(x), 1, 4, dtype=torch.float64)
    k, v = torch.randn(2, len(coarse), 1, 4, dtype=torch.float64)
    expected = by_matrix(q, k, v, x.coords[:, 0], coarse.coords[:, 0], 1.0)
    torch.testing.assert_close(attention(q, k, v, x, coarse, 1.0), expected, **CLOSE)


@pytest.mark.parametrize("heads", [1, 3])
def test_many_rows_come_in_chunks(monkeypatch, backend, heads):
    monkeypatch.setattr(plain, "CELLS", 5000)
    ends = torch.tensor([0, 1201])
    q, k, v = torch.randn(3, 1201, heads, 8, dtype=torch.float64)
    given = [t.requires_grad_() for t in (q, k, v)]
    item = torch.zeros(1201)
    y = ragged_attention(q, k, v, ends, ends, 0.3)
    expected = by_matrix(q, k, v, item, item, 0.3)
    torch.testing.assert_close(y, expected, **CLOSE)
    probe = torch.randn_like(expected)
    found = torch.autograd.grad(y, given, probe)
    for a, b in zip(found, torch.autograd.grad(expected, given, probe), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_large_logits_do_not_overflow(backend):
    ends = torch.tensor([0, 40])
    q, k, v = (torch.randn(40, 1, 8) * s for s in (100, 100, 1))
    y = ragged_attention(q, k, v, ends, ends, 1.0)
    # logits of 1e4 and more, whose roundings are exponents: digits before the point are lost
    close = tolerance(torch.float32, "logits")
    item = torch.zeros(40)
    expected = by_matrix(*(t.double() for t in (q, k, v)), item, item, 1.0)
    torch.testing.assert_close(y.double(), expected, **close)


def test_the_same_with_every_number_of_threads():
    coords = room(3000)
    x = sc.SparseTensor(coords, torch.randn(len(coords), 1), batch_size=1)
    q, k, v = torch.randn(3, len(coords), 1, 8).requires_grad_()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = attention(q, k, v, x, x, 1.0)
        found.append((y, *torch.autograd.grad(y.square().sum(), (q, k, v))))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_no_matrix_is_held():
    count = 20_000
    ends = torch.tensor([0, count])
    q, k, v = torch.randn(3, count, 1, 4)
    with torch.profiler.profile(profile_memory=True) as seen:
        ragged_attention(q, k, v, ends, ends, 1.0)
    most = max(abs(event.cpu_memory_usage) for event in seen.key_averages())
    assert most < 40 * count * 4 * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(backend, dtype):
    ends = torch.tensor([0, 6])
    q, k, v = torch.randn(3, 6, 1, 4)
    with torch.autocast("cpu", dtype=dtype):
        y = ragged_attention(q, k, v, ends, ends, 1.0)
    assert y.dtype == dtype
    expected = ragged_attention(q, k, v, ends, ends, 1.0)
    # of queries, keys, values and weights
    torch.testing.assert_close(y.float(), expected, **tolerance(torch.bfloat16, "formula"))


def test_refusals(backend):
    ends = torch.tensor([0, 4])
    q = torch.ones(4, 2, 3)

    def refused(error, words, *given):
        with pytest.raises(error, match=words):
            ragged_attention(*given, 1.0)

    refused(TypeError, "q: expected float32", q.long(), q, q, ends, ends)
    refused(ValueError, "k: expected three axes", q, q[0], q, ends, ends)
    refused(TypeError, "v: expected float32", q, q, q.double(), ends, ends)
    refused(ValueError, "k: expected 2 heads of 3", q, q[..., :2], q, ends, ends)
    refused(ValueError, "v: expected 2 heads", q, q, q[:, :1], ends, ends)
    refused(ValueError, "v: expected 4 rows", q, q, q[:3], ends, ends)
    refused(TypeError, "q_ends: expected an int64", q, q, q, ends.int(), ends)
    refused(ValueError, "k_ends: expected", q, q, q, ends, torch.tensor([0, 2, 4]))
    refused(IndexError, "k_ends: expected numbers", q, q, q, ends, torch.tensor([0, 3]))
