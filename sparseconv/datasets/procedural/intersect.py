"""Where rays enter a solid, in the solid's own frame."""

import numpy as np

from sparseconv.datasets.procedural.solid import Solid

MISS = np.float32(np.inf)


def _slabs(half: np.ndarray, o: np.ndarray, d: np.ndarray):
    """Return entry, exit and the entry of each axis for a centred box."""
    near, far = [], []
    for axis in range(3):
        inverse = 1.0 / d[axis]
        a, b = (-half[axis] - o[axis]) * inverse, (half[axis] - o[axis]) * inverse
        near.append(np.minimum(a, b))
        far.append(np.maximum(a, b))
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    return enter, leave, near


def _box(solid: Solid, o: np.ndarray, d: np.ndarray):
    enter, leave, near = _slabs(solid.half, o, d)
    cosine = np.where(
        enter == near[2], np.abs(d[2]), np.where(enter == near[1], np.abs(d[1]), np.abs(d[0]))
    )
    enter = np.where((enter < leave) & (enter > 0), enter, MISS)
    if solid.surface is not None:
        front = (enter == near[1]) & np.isfinite(enter)
        t = np.where(front, enter, 0)
        depth = solid.surface(o[0] + t * d[0], o[2] + t * d[2])
        enter = np.where(front, enter + depth / np.maximum(cosine, 0.1), enter)
    return enter, leave, cosine


def _ellipsoid(solid: Solid, o: np.ndarray, d: np.ndarray):
    p = (o / solid.half).astype(np.float32)
    q = d / solid.half[:, None].astype(np.float32)
    a = q[0] * q[0] + q[1] * q[1] + q[2] * q[2]
    b = p[0] * q[0] + p[1] * q[1] + p[2] * q[2]
    c = float(p @ p) - 1.0
    root = b * b - a * c
    hit = root > 0
    root = np.sqrt(np.where(hit, root, 0))
    enter = np.where(hit, (-b - root) / a, MISS)
    leave = np.where(hit, (-b + root) / a, -MISS)
    # the gradient of the implicit surface is its normal
    n = [(p[i] + np.where(hit, enter, 0) * q[i]) / solid.half[i] for i in range(3)]
    size = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-9
    cosine = np.abs(n[0] * d[0] + n[1] * d[1] + n[2] * d[2]) / size
    return np.where(enter > 0, enter, MISS), leave, cosine


def _frustum(solid: Solid, o: np.ndarray, d: np.ndarray):
    """Intersect x^2 + y^2 = (r (1 + k z))^2 between two lids."""
    height, r = solid.half[2], solid.radius
    k = r * solid.taper / height
    w, dw = r + k * o[2], k * d[2]
    a = d[0] * d[0] + d[1] * d[1] - dw * dw
    a = np.where(np.abs(a) < 1e-9, 1e-9, a)
    b = o[0] * d[0] + o[1] * d[1] - w * dw
    c = o[0] * o[0] + o[1] * o[1] - w * w
    root = b * b - a * c
    hit = root > 0
    root = np.sqrt(np.where(hit, root, 0))
    t0, t1 = (-b - root) / a, (-b + root) / a
    first, second = np.minimum(t0, t1), np.maximum(t0, t1)
    z0, z1 = o[2] + first * d[2], o[2] + second * d[2]
    side = np.where(hit & (np.abs(z0) <= height) & (first > 0), first, MISS)
    back = np.where(hit & (np.abs(z1) <= height) & (second > 0), second, MISS)
    cosine = np.clip(root / np.maximum(r, 1e-3), 0, 1)
    if solid.hollow:
        return np.where(np.isfinite(side), side, back), side, cosine
    enter, leave = np.minimum(side, back), np.where(np.isfinite(back), back, -MISS)
    for z in (-height, height):
        t = (z - o[2]) / d[2]
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        lid = r + k * z
        inside = (x * x + y * y <= lid * lid) & (t > 0)
        closer = inside & (t < enter)
        leave = np.where(inside & (t > leave), t, leave)
        enter = np.where(closer, t, enter)
        cosine = np.where(closer, np.abs(d[2]), cosine)
    return enter, leave, cosine


def _convex(solid: Solid, o: np.ndarray, d: np.ndarray):
    enter = np.full(d.shape[1], -MISS, np.float32)
    leave = np.full(d.shape[1], MISS, np.float32)
    cosine = np.ones(d.shape[1], np.float32)
    for plane in solid.planes.astype(np.float32):
        speed = plane[0] * d[0] + plane[1] * d[1] + plane[2] * d[2]
        t = (plane[3] - float(plane[:3] @ o)) / speed
        inward = speed < 0
        closer = inward & (t > enter)
        cosine = np.where(closer, -speed, cosine)
        enter = np.where(closer, t, enter)
        leave = np.where(~inward & (t < leave), t, leave)
    return np.where((enter < leave) & (enter > 0), enter, MISS), leave, cosine


def _rounded(solid: Solid, o: np.ndarray, d: np.ndarray):
    """March along the distance to a rounded box, starting where the ray meets its hull."""
    enter, leave, _ = _slabs(solid.half, o, d)
    rows = np.flatnonzero((enter < leave) & (enter > 0))
    t_out = np.full(d.shape[1], MISS, np.float32)
    cosine = np.ones(d.shape[1], np.float32)
    if len(rows) == 0:
        return t_out, leave, cosine
    inner = (solid.half - solid.radius)[:, None].astype(np.float32)
    start, ray, t = o[:, None].astype(np.float32), d[:, rows], enter[rows].astype(np.float32)
    for _ in range(10):
        q = np.maximum(np.abs(start + t * ray) - inner, 0)
        gap = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) - solid.radius
        t = t + gap
    near = gap < 0.004
    point = start + t * ray
    q = np.maximum(np.abs(point) - inner, 0) * np.sign(point)
    size = np.sqrt((q * q).sum(0)) + 1e-9
    t_out[rows] = np.where(near, t, MISS)
    cosine[rows] = np.abs((q * ray).sum(0)) / size
    return t_out, leave, cosine


KINDS = {
    "box": _box,
    "ellipsoid": _ellipsoid,
    "frustum": _frustum,
    "convex": _convex,
    "rounded": _rounded,
}


def intersect(solid: Solid, origin: np.ndarray, directions: np.ndarray, rng: np.random.Generator):
    """Return distance to the first hit and cosine of incidence of rays with one solid.

    Args:
        solid: the solid.
        origin: [3] common start of the rays, world frame, metres.
        directions: [3, n] unit vectors, world frame, float32.
        rng: source of the random depths of porous solids and of lost rays.

    Returns:
        distance [n] in metres, inf where missed; cosine [n].
    """
    turn = solid.rotation.T.astype(np.float32)
    o = (solid.rotation.T @ (origin - solid.centre)).astype(np.float32)
    d = turn @ directions
    d = np.where(np.abs(d) < 1e-7, np.float32(1e-7), d)
    if not solid.free_path:
        t, _, cosine = KINDS[solid.kind](solid, o, d)
        return t, cosine
    # leaves: the ray stops after a random depth, or passes between them
    enter, leave, cosine = KINDS[solid.kind](solid, o, d)
    t = enter + rng.exponential(solid.free_path, len(enter)).astype(np.float32)
    return np.where(t < leave, t, MISS), np.clip(cosine + 0.3, 0, 1)
