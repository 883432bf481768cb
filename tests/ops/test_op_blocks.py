"""The block index: every site where the layout says, the same words from both backends."""

import pytest
import torch

import sparseconv as sc
from sparseconv.ops.blocks import block_index
from sparseconv.testing import oracle, scenes
from sparseconv.testing.scenes import room, scene

HEADER, BLOCK = 8, 8


def bit_of(x, y, z):
    """Bits of the coordinates interleaved, x highest, the second lowest before the lowest."""
    place = 0
    for plane in (1, 0):
        for value in (x, y, z):
            place = place << 1 | value >> plane & 1
    return place


def read(words):
    """Return the rows by site, found as a look-up finds them, and the header."""
    words = words.tolist()
    rows, distinct, count, buckets = words[:4]
    assert words[4:HEADER] == [0] * 4
    at = HEADER + BLOCK * count
    begins, order = words[at : at + buckets + 1], words[at + buckets + 1 :][:count]
    found = words[at + buckets + 1 + count :]
    assert len(found) == distinct and sorted(order) == list(range(count))
    assert begins[0] == 0 and begins[-1] == count and begins == sorted(begins)
    row_of = {}
    for i in range(count):
        b, x, y, z, low, high, begin, unused = words[HEADER + BLOCK * i :][:BLOCK]
        mask = (low & 0xFFFFFFFF) | (high & 0xFFFFFFFF) << 32
        assert mask and unused == 0 and begin == len(row_of)
        for cell in range(64):
            if not mask >> cell & 1:
                continue
            near = [(cell >> 3 + 2 - a & 1) << 1 | cell >> 2 - a & 1 for a in range(3)]
            site = (b, *(4 * v + n for v, n in zip((x, y, z), near, strict=True)))
            assert bit_of(*near) == cell and site not in row_of
            row_of[site] = found[begin + bin(mask & (1 << cell) - 1).count("1")]
    return row_of, rows, buckets, (begins, order)


@pytest.mark.parametrize("name", scenes.NAMES)
def test_every_site_has_its_lowest_row(backend, name):
    coords = scene(name).coords
    expected = {}
    for row, site in enumerate(oracle.sites_of(coords)):
        expected.setdefault(site, row)
    row_of, rows, _, _ = read(block_index(coords))
    assert row_of == expected and rows == len(coords)
    # as a walk in Z-order meets them
    assert list(row_of) == sorted(expected, key=oracle.z_place)


@pytest.mark.parametrize("name", scenes.NAMES)
def test_both_backends_write_the_same_words(name):
    coords = scene(name).coords
    with sc.use_backend("reference"):
        expected = block_index(coords)
    assert expected.dtype == torch.int32 and torch.equal(block_index(coords), expected)


def test_threads_and_rows_in_another_order(threads):
    coords = room(40_000)
    words = block_index(coords)
    with sc.use_backend("reference"):
        assert torch.equal(words, block_index(coords))
    row_of, _, buckets, (begins, _) = read(words)
    assert len(row_of) == len(coords)
    sizes = torch.tensor(begins).diff()
    assert buckets >= 2 * int(sizes.sum()) and sizes.max() < 8
    flipped, *_ = read(block_index(coords.flip(0)))
    assert list(flipped) == list(row_of)
    assert all(flipped[site] == len(coords) - 1 - row for site, row in row_of.items())


def test_a_level_keeps_its_index():
    x = scene("random_sparse").tensor(1)
    words = x.topology.blocks(x.level)
    assert x.topology.blocks(x.level) is words
    assert torch.equal(words, block_index(x.coords))
