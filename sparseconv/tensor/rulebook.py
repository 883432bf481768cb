"""The rulebook (kernel map): which input row each tap of each output row reads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.ops.row_list import list_size, pairs_by_row

_AS_IT_IS = nullcontext()


def keepable() -> AbstractContextManager:
    """Leave inference mode: what is kept may later be saved for a backward pass."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return _AS_IT_IS
    return torch.inference_mode(False)


@dataclass(frozen=True, eq=False)
class Rulebook:
    """Pairs of input and output rows, grouped by tap.

    A plain struct of tensors: save it with `torch.save`, count it with `len`, share it between
    layers of one kernel geometry. Pairs of tap t are `segments[t]:segments[t + 1]`. Built ones
    are sorted by (tap, output row); hand-made ones may hold pairs in any order.

    Attributes:
        in_rows: int32 [P].
        out_rows: int32 [P].
        segments: int64 [K + 1], non-decreasing, from 0 to P.
        symmetric: whether (o, i) is a pair of tap K - 1 - t for every pair (i, o) of tap t, as
            where sites meet themselves under an odd kernel of stride 1; gradients are then faster.
        lists: what is made of the pairs, such as `by_row`: kept from call to call, neither saved
            nor sent to other processes, for it is quickly made again.
    """

    in_rows: Tensor  # [P] int32
    out_rows: Tensor  # [P] int32
    segments: Tensor  # [K + 1] int64
    symmetric: bool = False
    lists: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    backwards: bool = field(default=False, init=False, repr=False)

    def __len__(self) -> int:
        """Return the number of pairs P."""
        return self.in_rows.shape[0]

    @property
    def taps(self) -> int:
        """Number of taps K."""
        return self.segments.shape[0] - 1

    @property
    def reversed(self) -> Rulebook:
        """The rulebook of the transposed convolution: the same tensors, names exchanged."""
        book = Rulebook(self.out_rows, self.in_rows, self.segments, self.symmetric)
        object.__setattr__(book, "lists", self.lists)
        object.__setattr__(book, "backwards", not self.backwards)
        return book

    def by_row(
        self,
        num_out: int,
    ) -> Tensor:  # [M + P + 69] int64
        """Return the pairs by output row, made when first asked for; see `pairs_by_row`.

        Args:
            num_out: output rows M.
        """
        return self._kept(
            "pairs",
            lambda: list_size(num_out, len(self)),
            lambda: pairs_by_row(self.in_rows, self.out_rows, self.segments, num_out),
        )

    def pair_counts(
        self,
        num_out: int,
    ) -> Tensor:  # [M] int64
        """Return how many pairs each output row has, kept as `by_row` is.

        Args:
            num_out: output rows M.
        """

        def count() -> Tensor:
            ones = torch.ones_like(self.out_rows, dtype=torch.int64)
            return ones.new_zeros(num_out).index_add(0, self.out_rows, ones)

        return self._kept("counts", lambda: num_out, count)

    def out_row_of(
        self,
        num_in: int,
    ) -> Tensor:  # [N] int32
        """Return the output row of each input row, all of which have one; kept as `by_row` is.

        Args:
            num_in: input rows N.
        """

        def spread() -> Tensor:
            rows = self.out_rows.new_zeros(num_in)
            return rows.scatter(0, self.in_rows.long(), self.out_rows)

        return self._kept("partner", lambda: num_in, spread)

    def _kept(self, name: str, size: Callable[[], int], make: Callable[[], Tensor]) -> Tensor:
        key = f"{name} {'in' if self.backwards else 'out'}"
        made = self.lists.get(key)
        # a traced graph keeps a rulebook to the levels it was made for, as topologies do
        stale = not torch.compiler.is_compiling() and made is not None
        if made is None or (stale and made.shape[0] != size()):
            with keepable():
                made = make()
            self.lists[key] = made
        return made

    @property
    def tap_of_pair(self) -> Tensor:
        """Tap of each pair, int64 [P]."""
        pairs = torch.arange(self.in_rows.shape[0], device=self.in_rows.device)
        return torch.bucketize(pairs, self.segments[1:], right=True)

    def table(
        self,
        num_out: int,
    ) -> Tensor:  # [M, K] int32
        """Spread the pairs to one row per output site.

        Args:
            num_out: output rows M.

        Returns:
            int32 [M, K], the input row of each tap, -1 where absent.
        """
        table = self.in_rows.new_full((num_out, self.taps), -1)
        table[self.out_rows.long(), self.tap_of_pair] = self.in_rows
        return table

    def validate(
        self,
        num_in: int,
        num_out: int,
    ) -> Rulebook:
        """Check a hand-made or loaded rulebook against the tensors it is meant for.

        Args:
            num_in: input rows N.
            num_out: output rows M.

        Returns:
            The rulebook itself.

        Raises:
            TypeError: wrong dtypes.
            ValueError: segments do not cover the pairs, a row is out of range, or a rulebook that
                is called symmetric is not.
        """
        for name, limit in (("in_rows", num_in), ("out_rows", num_out)):
            rows = getattr(self, name)
            if rows.dtype != torch.int32 or rows.dim() != 1:
                raise TypeError(complain(name, "int32 [P]", f"{rows.dtype} {list(rows.shape)}"))
            if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= limit):
                raise ValueError(
                    complain(
                        name,
                        f"rows in 0..{limit - 1}",
                        f"{int(rows.min())}..{int(rows.max())}",
                        "use a rulebook built from the sites of this tensor",
                    )
                )
        ends = self.segments
        if (
            ends.dtype != torch.int64
            or ends.dim() != 1
            or len(self.in_rows) != len(self.out_rows)
            or not len(ends)
            or int(ends[0]) != 0
            or int(ends[-1]) != len(self)
            or bool((ends[1:] < ends[:-1]).any())
        ):
            raise ValueError(
                complain("segments", f"int64, non-decreasing from 0 to {len(self)}", str(ends))
            )
        if self.symmetric and not self._is_symmetric(max(num_in, num_out)):
            raise ValueError(
                complain(
                    "symmetric",
                    "a pair (o, i) of tap K - 1 - t for every pair (i, o) of tap t",
                    "pairs without one",
                    "leave symmetric out",
                )
            )
        return self

    def _is_symmetric(self, rows: int) -> bool:
        tap, i, o = self.tap_of_pair, self.in_rows.long(), self.out_rows.long()
        mirror = self.taps - 1 - tap
        pairs = ((tap * rows + i) * rows + o).sort().values
        return torch.equal(pairs, ((mirror * rows + o) * rows + i).sort().values)

    def apply(self, change: Callable[[Tensor], Tensor]) -> Rulebook:
        """Return a rulebook of changed tensors, such as `apply(lambda t: t.cuda())`."""
        return Rulebook(
            change(self.in_rows), change(self.out_rows), change(self.segments), self.symmetric
        )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "lists": {}, "backwards": False}

    def __repr__(self) -> str:
        return f"Rulebook(pairs={self.in_rows.shape[0]}, taps={self.taps})"
