"""A scan: float64 positions and the named attributes of its points, in file order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparseconv._errors import complain
from sparseconv._optional import require

_SHAPES = {
    "rgb": (3, "uint8 or uint16 [N, 3]", lambda dtype: dtype in (np.uint8, np.uint16)),
    "normal": (3, "floating point [N, 3]", lambda dtype: dtype.kind == "f"),
    "intensity": (None, "numbers [N]", lambda dtype: True),
    "label": (None, "integers [N]", lambda dtype: dtype.kind in "iu"),
    "confidence": (None, "floating point [N]", lambda dtype: dtype.kind == "f"),
}


def canonical_misfit(name: str, values: np.ndarray) -> str | None:
    """Return what the attribute `name` must be when `values` are not that, else None.

    Args:
        name: attribute name; only canonical names have a fixed form.
        values: the attribute.  # [N] or [N, k]

    Returns:
        The expected form in words, or None when the values fit.
    """
    if name not in _SHAPES:
        return None
    columns, form, fits = _SHAPES[name]
    shape = values.shape[1:] == (() if columns is None else (columns,))
    return None if shape and fits(values.dtype) else form


@dataclass(frozen=True, eq=False, repr=False)
class PointCloud:
    """Points in the order of their file.

    Args:
        xyz: positions in metres, or in the file's unit (see `meta["unit"]`).  # [N, 3] float64
        attributes: name to values, each [N] or [N, k]. Canonical names: `rgb` [N, 3] uint8 or
            uint16, `normal` [N, 3] float, `intensity` [N], `label` [N] integers, `confidence` [N]
            float; every other attribute keeps the file's own name and dtype.
        meta: what is needed to write the same file again (`source`, `format`, `unit`, headers).

    Raises:
        ValueError: a shape or dtype does not fit.

    Points with NaN coordinates stay: rows always match the file. `voxelize` drops them.

    Example:
        >>> cloud = PointCloud([[0, 0, 0], [1, 2, 3]], {"intensity": [7, 9]})
        >>> cloud.select([1]).attributes["intensity"]
        array([9])
    """

    xyz: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        xyz = np.asarray(self.xyz)
        if xyz.size == 0 and xyz.ndim < 2:
            xyz = np.zeros((0, 3))
        if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype.kind not in "iuf":
            raise ValueError(
                complain("xyz", "real numbers [N, 3]", f"{xyz.dtype} {list(xyz.shape)}")
            )
        attributes = {}
        for name, given in dict(self.attributes).items():
            values = np.asarray(given)
            if not isinstance(name, str) or not name:
                raise ValueError(complain("attributes", "names of text", repr(name)))
            if (
                values.dtype.kind not in "biuf"
                or values.ndim not in (1, 2)
                or len(values) != len(xyz)
                or 0 in values.shape[1:]
            ):
                found = f"{values.dtype} {list(values.shape)}"
                wanted = f"numbers [{len(xyz)}] or [{len(xyz)}, k], a row for each point"
                raise ValueError(complain(f"attribute {name!r}", wanted, found))
            form = canonical_misfit(name, values)
            if form:
                found = f"{values.dtype} {list(values.shape)}"
                raise ValueError(
                    complain(f"attribute {name!r}", form, found, "convert it or rename it")
                )
            attributes[name] = values
        object.__setattr__(self, "xyz", np.ascontiguousarray(xyz, dtype=np.float64))
        object.__setattr__(self, "attributes", attributes)
        object.__setattr__(self, "meta", dict(self.meta))

    def __len__(self) -> int:
        return len(self.xyz)

    def __repr__(self) -> str:
        named = ", ".join(
            f"{name} {values.dtype}{list(values.shape[1:]) or ''}"
            for name, values in self.attributes.items()
        )
        return f"PointCloud({len(self)} points; {named or 'no attributes'})"

    def replace(
        self,
        xyz: np.ndarray | None = None,
        attributes: Mapping[str, np.ndarray] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> "PointCloud":
        """Return a cloud with the given parts exchanged and the others shared.

        Args:
            xyz: new positions.  # [N, 3]
            attributes: all new attributes.
            meta: all new meta data.

        Returns:
            A new PointCloud.
        """
        return PointCloud(
            self.xyz if xyz is None else xyz,
            self.attributes if attributes is None else dict(attributes),
            self.meta if meta is None else dict(meta),
        )

    def with_attributes(self, **new: np.ndarray) -> "PointCloud":
        """Return a cloud with attributes added, or exchanged where the name exists.

        Args:
            **new: name to values.  # [N] or [N, k]

        Returns:
            A new PointCloud; old attributes keep their place, new ones come last.
        """
        return self.replace(attributes={**self.attributes, **new})

    def select(self, rows: np.ndarray) -> "PointCloud":
        """Return the chosen points with all their attributes.

        Args:
            rows: a boolean mask [N] or integer rows [M], repeats allowed.

        Returns:
            A new PointCloud in the order of `rows`.
        """
        rows = np.asarray(rows)
        if rows.size == 0 and rows.dtype.kind == "f":
            rows = rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "biu":
            raise ValueError(
                complain("rows", "a mask [N] or integers [M]", f"{rows.dtype} {list(rows.shape)}")
            )
        if rows.dtype.kind == "b" and len(rows) != len(self):
            raise ValueError(complain("rows", f"a mask of {len(self)}", f"one of {len(rows)}"))
        return self.replace(
            xyz=self.xyz[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
        )

    def unit_rgb(self) -> np.ndarray | None:
        """Return colours between 0 and 1, or None when the cloud has none.

        8-bit values in a 16-bit attribute (common in LAS files) are recognised by their maximum.
        Separate floating-point `red`, `green`, `blue` attributes count as colours, too.

        Returns:
            Colours.  # [N, 3] float32
        """
        rgb = self.attributes.get("rgb")
        if rgb is not None:
            eight_bit = rgb.dtype == np.uint8 or rgb.max(initial=0) <= 255
            return rgb.astype(np.float32) / np.float32(255 if eight_bit else 65535)
        channels = [self.attributes.get(name) for name in ("red", "green", "blue")]
        if any(c is None or c.ndim != 1 or c.dtype.kind != "f" for c in channels):
            return None
        rgb = np.stack(channels, axis=1).astype(np.float32)
        return np.clip(rgb / np.float32(255), 0, 1) if rgb.max(initial=0) > 1 else rgb

    def to_open3d(self, *, legacy: bool = False):
        """Return the cloud as an Open3D point cloud.

        Args:
            legacy: return `open3d.geometry.PointCloud` (positions, normals, colours only) instead
                of `open3d.t.geometry.PointCloud`, which takes every attribute.

        Returns:
            The Open3D object; a tensor cloud has `positions` float64, `colors` uint8 (float32
            where the cloud has 16-bit colours), `normals`, and each other attribute as [N, k].
        """
        o3d = require("open3d", extra="io")
        if legacy:
            cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(self.xyz))
            colours, normals = self.unit_rgb(), self.attributes.get("normal")
            if colours is not None:
                cloud.colors = o3d.utility.Vector3dVector(colours.astype(np.float64))
            if normals is not None:
                cloud.normals = o3d.utility.Vector3dVector(normals.astype(np.float64))
            return cloud
        cloud = o3d.t.geometry.PointCloud()
        cloud.point["positions"] = o3d.core.Tensor.from_numpy(self.xyz.copy())
        for name, values in self.attributes.items():
            if name == "rgb" and values.dtype != np.uint8:
                values = self.unit_rgb()
            if values.dtype == np.float16:
                values = values.astype(np.float32)
            values = np.array(values.reshape(len(self), -1), order="C")
            key = {"rgb": "colors", "normal": "normals"}.get(name, name)
            cloud.point[key] = o3d.core.Tensor.from_numpy(values)
        return cloud

    @classmethod
    def from_open3d(cls, cloud) -> "PointCloud":
        """Return the points of an Open3D cloud, tensor or legacy, with all their attributes.

        Args:
            cloud: `open3d.t.geometry.PointCloud` or `open3d.geometry.PointCloud`.

        Returns:
            A PointCloud; floating-point colours become uint8 where they are multiples of 1/255,
            else uint16.
        """
        if hasattr(cloud, "point"):
            parts = {name: cloud.point[name].cpu().numpy().copy() for name in cloud.point}
        elif hasattr(cloud, "points"):
            parts = {"positions": np.array(cloud.points, dtype=np.float64).reshape(-1, 3)}
            if cloud.has_normals():
                parts["normals"] = np.array(cloud.normals)
            if cloud.has_colors():
                parts["colors"] = np.array(cloud.colors)
        else:
            raise TypeError(complain("cloud", "an Open3D point cloud", type(cloud).__name__))
        xyz = parts.pop("positions", np.zeros((0, 3)))
        attributes = {}
        for key, values in parts.items():
            name = {"colors": "rgb", "normals": "normal"}.get(key, key)
            if values.ndim == 2 and values.shape[1] == 1:
                values = values[:, 0]
            values = quantise_colours(values) if name == "rgb" else values
            attributes[name] = values
        return cls(xyz, attributes)


def quantise_colours(rgb: np.ndarray) -> np.ndarray:
    """Return floating-point colours as integers, as exactly as 16 bits allow.

    Args:
        rgb: colours between 0 and 1, or integers, which stay.  # [N, 3]

    Returns:
        uint8 where every value is a multiple of 1/255 (to six digits), else uint16.  # [N, 3]
    """
    if rgb.dtype.kind != "f":
        return rgb
    rgb = np.clip(np.nan_to_num(rgb.astype(np.float64)), 0.0, 1.0)
    eight_bit = np.rint(rgb * 255)
    if np.abs(rgb * 255 - eight_bit).max(initial=0.0) < 3e-4:
        return eight_bit.astype(np.uint8)
    return np.rint(rgb * 65535).astype(np.uint16)
