"""Z-order of any sites: the compiled keys, the comparison and plain torch give one order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparseconv.backends.reference import coords as reference
from sparseconv.testing import oracle

LEAST, MOST = -(2**31), 2**31 - 1


@st.composite
def boxes(draw):
    """Some hundred sites in a box of any place and size, of which each axis may be thin."""
    low, extent = [], []
    for _ in range(3):
        size = draw(st.sampled_from([1, 2, 3, 7, 64, 1000, 2**16, 2**20, 2**32]))
        near = draw(st.sampled_from([0, 2**10, -(2**20), 2**30, LEAST, MOST]))
        start = near - draw(st.integers(0, size))
        low.append(max(LEAST, min(start, MOST + 1 - size)))
        extent.append(size)
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n = draw(st.integers(1, 300))
    xyz = [
        a + torch.randint(size, (n, 1), generator=rng) for a, size in zip(low, extent, strict=True)
    ]
    items = draw(st.sampled_from([1, 2, 9, 2**20]))
    batch = torch.randint(items, (n, 1), generator=rng)
    return torch.cat([batch, *xyz], 1).to(torch.int32)


@given(boxes())
def test_reference_order_is_that_of_interleaved_bits(sites):
    order = reference.z_order(sites)
    assert oracle.sites_of(sites[order]) == sorted(oracle.sites_of(sites), key=oracle.z_place)


@given(boxes())
def test_compiled_order_is_the_references(sites):
    cpu = pytest.importorskip("sparseconv.backends.cpu.coords")
    for found, expected in zip(
        cpu.unique_coords(sites), reference.unique_coords(sites), strict=True
    ):
        assert torch.equal(found, expected)
    offsets = [0, 0, 0, 0, 0, 1, 1, 0, 1]
    limits = [LEAST] * 3, [MOST + 1] * 3
    for stride in ([1, 1, 1], [2, 2, 2], [1, 3, 2]):
        args = (sites, offsets, stride, *limits, False)
        assert torch.equal(cpu.output_coords(*args), reference.output_coords(*args))


@given(boxes())
def test_halving_keeps_the_order(sites):
    unique = reference.unique_coords(sites)[0].long()
    halved = torch.cat([unique[:, :1], unique[:, 1:] >> 1], 1).to(torch.int32)
    assert torch.equal(reference.z_order(halved), torch.arange(len(halved)))
