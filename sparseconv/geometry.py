"""The integers of a convolution: kernel size, stride, padding, dilation, tap offsets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sparseconv._errors import complain

Triple = tuple[int, int, int]
_KEY = re.compile("".join(rf"{name}(\d+\.\d+\.\d+)" for name in "kspdf"))
_LIST = re.compile(r"o(-?\d+\.-?\d+\.-?\d+(?:_-?\d+\.-?\d+\.-?\d+)*)s(\d+\.\d+\.\d+)")


def triple(name: str, value: int | Sequence[int], *, least: int) -> Triple:
    """Spread an int over the three axes, or check a sequence of three.

    Args:
        name: the argument's name, for the error.
        value: one int for all axes, or three, in the order x, y, z.
        least: the smallest value accepted.

    Returns:
        Three ints.

    Raises:
        TypeError: `value` is neither an int nor three ints.
        ValueError: a value lies below `least`.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        result = (value, value, value)
    elif (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 3
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    ):
        result = (value[0], value[1], value[2])
    else:
        raise TypeError(complain(name, "an int or three ints (x, y, z)", repr(value)))
    if min(result) < least:
        raise ValueError(complain(name, f"values >= {least}", repr(value)))
    return result


@dataclass(frozen=True)
class Geometry:
    """Which input site each tap of each output site reads.

    Tap i = (ix, iy, iz) of output site o reads input site `o * stride - padding + i * dilation`, as
    `torch.nn.Conv3d` does. Taps are numbered x-major: `t = (ix * ky + iy) * kz + iz`. A transposed
    convolution has the same geometry with the roles of input and output exchanged.

    Attributes:
        size: kernel size (kx, ky, kz), taps.
        stride: step of the output lattice, voxels of the input lattice.
        padding: voxels before the first input site.
        far_padding: voxels after the last one; more than `padding` only for `"same"` and an odd
            `dilation * (size - 1)`.
        dilation: distance between taps, voxels.
        offsets: tap offsets as 3K ints, x-major: `tap * dilation - padding`, voxels.
        key: a short unique name, such as `k3.3.3s1.1.1p1.1.1d1.1.1f1.1.1`.
    """

    size: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    far_padding: Triple | None = None
    offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        (kx, ky, kz), (px, py, pz), (dx, dy, dz) = self.size, self.padding, self.dilation
        offsets = tuple(
            v
            for ix in range(kx)
            for iy in range(ky)
            for iz in range(kz)
            for v in (ix * dx - px, iy * dy - py, iz * dz - pz)
        )
        if self.far_padding is None:
            object.__setattr__(self, "far_padding", self.padding)
        fields = (self.size, self.stride, self.padding, self.dilation, self.far_padding)
        parts = zip("kspdf", fields, strict=True)
        key = "".join(f"{name}{'.'.join(map(str, values))}" for name, values in parts)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "key", key)

    @classmethod
    def make(
        cls,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
    ) -> Geometry:
        """Parse constructor arguments of a layer.

        Args:
            kernel_size: taps per axis, >= 1.
            stride: voxels, >= 1.
            padding: voxels, >= 0, or `"valid"` (none), or `"same"` (stride 1 only:
                `dilation * (kernel_size - 1) // 2` on the left, as torch does for even kernels).
            dilation: voxels, >= 1.

        Returns:
            The geometry.

        Raises:
            TypeError: an argument is neither an int nor three ints.
            ValueError: a value is out of range, or `padding="same"` with a stride other than 1.
        """
        size = triple("kernel_size", kernel_size, least=1)
        step = triple("stride", stride, least=1)
        spread = triple("dilation", dilation, least=1)
        far = None
        if isinstance(padding, str):
            if padding == "same":
                if step != (1, 1, 1):
                    raise ValueError(
                        complain(
                            "padding",
                            "a number where stride is not 1",
                            f"'same' with stride {step}",
                            "give the padding in voxels",
                        )
                    )
                total = tuple(d * (k - 1) for d, k in zip(spread, size, strict=True))
                left = tuple(t // 2 for t in total)
                far = tuple(t - t // 2 for t in total)
            elif padding == "valid":
                left = (0, 0, 0)
            else:
                raise ValueError(
                    complain("padding", "'same', 'valid', an int or three ints", repr(padding))
                )
        else:
            left = triple("padding", padding, least=0)
        return cls(size, step, left, spread, far)

    @classmethod
    def submanifold(
        cls, kernel_size: int | Sequence[int], dilation: int | Sequence[int] = 1
    ) -> Geometry:
        """Geometry whose output sites are its input sites: stride 1, `padding="same"`."""
        return cls.make(kernel_size, 1, "same", dilation)

    @classmethod
    def parse(cls, key: str) -> Geometry:
        """Read a `key` back: `Geometry.parse(geometry.key) == geometry`.

        Raises:
            ValueError: the text is no key.
        """
        if not (found := _KEY.fullmatch(key)):
            raise ValueError(complain("key", "a text such as k2.2.2s2.2.2p0.0.0d1.1.1f0.0.0", key))
        return cls(*(tuple(map(int, part.split("."))) for part in found.groups()))

    @property
    def taps(self) -> int:
        """Number of taps K."""
        return self.size[0] * self.size[1] * self.size[2]

    def output_shape(self, shape: Triple) -> Triple:
        """Extent of the output lattice of a convolution, voxels (torch's formula).

        Args:
            shape: extent of the input lattice, voxels.

        Returns:
            `floor((shape + padding + far_padding - dilation (size - 1) - 1) / stride) + 1`, at
            least 0.
        """
        out = tuple(
            max((n + p + f - d * (k - 1) - 1) // s + 1, 0)
            for n, k, s, p, f, d in zip(
                shape,
                self.size,
                self.stride,
                self.padding,
                self.far_padding,
                self.dilation,
                strict=True,
            )
        )
        return (out[0], out[1], out[2])

    def transposed_shape(self, shape: Triple, output_padding: Triple = (0, 0, 0)) -> Triple:
        """Extent of the output lattice of a transposed convolution, voxels (torch's formula).

        Args:
            shape: extent of the input lattice, voxels.
            output_padding: voxels added at the far side.

        Returns:
            `(shape - 1) stride - 2 padding + dilation (size - 1) + output_padding + 1`, at least 0.
        """
        out = tuple(
            max((n - 1) * s - 2 * p + d * (k - 1) + q + 1, 0) if n > 0 else 0
            for n, k, s, p, d, q in zip(
                shape,
                self.size,
                self.stride,
                self.padding,
                self.dilation,
                output_padding,
                strict=True,
            )
        )
        return (out[0], out[1], out[2])


@dataclass(frozen=True)
class Offsets:
    """Taps that form no box: tap t of output site o reads input site `o * stride + triples[t]`.

    Attributes:
        triples: offset of each tap, voxels.
        stride: step of the output lattice, voxels of the input lattice.
        offsets: the same as 3K ints.
        key: a unique name, such as `o0.0.0_0.0.-1s1.1.1`.
    """

    triples: tuple[Triple, ...]
    stride: Triple = (1, 1, 1)
    offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        listed = "_".join(".".join(map(str, tap)) for tap in self.triples)
        object.__setattr__(self, "offsets", tuple(v for tap in self.triples for v in tap))
        object.__setattr__(self, "key", f"o{listed}s{'.'.join(map(str, self.stride))}")

    @property
    def taps(self) -> int:
        """Number of taps K."""
        return len(self.triples)


def parse_key(key: str) -> Geometry | Offsets:
    """Read the `key` of a geometry or of a list of offsets back.

    Raises:
        ValueError: the text is no key.
    """
    if not (found := _LIST.fullmatch(key)):
        return Geometry.parse(key)
    listed, stride = found.groups()
    triples = tuple(tuple(map(int, tap.split("."))) for tap in listed.split("_"))
    return Offsets(triples, tuple(map(int, stride.split("."))))


def mirrored(offsets: Sequence[int]) -> bool:
    """Return whether an odd number of offsets (3K ints) turns into itself when read backwards."""
    taps = len(offsets) // 3
    if taps % 2 == 0:
        return False
    return all(
        offsets[3 * t + a] == -offsets[3 * (taps - 1 - t) + a]
        for t in range(taps)
        for a in range(3)
    )
