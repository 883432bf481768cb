"""Running sums begin anew with every item, and are refused what does not cover the rows."""

import pytest
import torch

from sparseconv.ops.running import running_sums

ENDS = torch.tensor([0, 3, 3, 5])


@pytest.mark.parametrize("reverse", [False, True])
def test_each_item_by_itself(backend, reverse):
    values = torch.randn(5, 2)
    values[0, 0] = torch.nan
    found = running_sums(values, ENDS, reverse=reverse)
    for part in (slice(0, 3), slice(3, 5)):
        rows = values[part].flip(0) if reverse else values[part]
        expected = torch.stack([rows[: n + 1].sum(0) for n in range(len(rows))])
        expected = expected.flip(0) if reverse else expected
        torch.testing.assert_close(found[part], expected, equal_nan=True)


def test_long_sums_keep_their_last_bits():
    values = torch.full((200_000, 1), 0.1)
    found = running_sums(values, torch.tensor([0, 200_000]))
    assert abs(float(found[-1]) - 200_000 * float(values[0])) < 2e-3


def test_refusals():
    values = torch.ones(5, 2)
    with pytest.raises(TypeError, match="ends: expected an int64"):
        running_sums(values, ENDS.int())
    with pytest.raises(TypeError, match="values: expected float32"):
        running_sums(values.long(), ENDS)
    for wrong in ([0, 4], [1, 5], [0, 4, 2, 5]):
        with pytest.raises(IndexError, match="ends: expected numbers rising from 0 to 5"):
            running_sums(values, torch.tensor(wrong))
