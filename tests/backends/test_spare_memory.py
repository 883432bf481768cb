"""Freed results are kept for the next ones of their size, never while someone holds them."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu.coords import unique_coords

SITES = torch.cartesian_prod(*[torch.arange(n, dtype=torch.int32) for n in (1, 30, 30, 30)])


def addresses(made):
    return [tensor.data_ptr() for tensor in made]


def test_freed_results_make_room_for_the_next():
    for _ in range(3):
        before = addresses(unique_coords(SITES))
    assert sorted(addresses(unique_coords(SITES))) == sorted(before)


def test_results_that_are_held_stay_as_they_are():
    held = [
        unique_coords(SITES + torch.tensor([0, shift, 0, 0], dtype=torch.int32))
        for shift in range(4)
    ]
    assert len({address for made in held for address in addresses(made)}) == 16
    for shift, (unique, *_) in enumerate(held):
        assert unique.min(0).values.tolist() == [0, shift, 0, 0]
        assert len(unique) == len(SITES)
