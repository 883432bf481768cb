"""Furnished rooms as a hand-held depth camera sees them: partial, occluded, noisy."""

import numpy as np

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural import clutter, furniture, seating
from sparseconv.datasets.procedural.paint import paint
from sparseconv.datasets.procedural.raycast import RayImage, cast, corners
from sparseconv.datasets.procedural.shell import outline, shell
from sparseconv.datasets.procedural.solid import Solid, box, place, rod, tilt_matrix, yaw_matrix
from sparseconv.datasets.procedural.view import PinholeView
from sparseconv.io.point_cloud import PointCloud

FLOOR, OTHER = ROOMS.index("floor"), ROOMS.index("other")


class Plan:
    """Free floor of a room: keeps footprints apart and inside.

    Args:
        polygon: [V, 2] corners, counter-clockwise, of a rectangle or an L.
    """

    def __init__(self, polygon: np.ndarray):
        self.polygon, self.taken = polygon, []

    def inside(self, x, y):
        """Return whether points lie in the room."""
        x, y = np.asarray(x), np.asarray(y)
        odd = np.zeros(x.shape, bool)
        for p, q in zip(self.polygon, np.roll(self.polygon, -1, 0), strict=True):
            crosses = (p[1] > y) != (q[1] > y)
            rise = q[1] - p[1] if q[1] != p[1] else 1.0
            odd ^= crosses & (x < p[0] + (y - p[1]) * (q[0] - p[0]) / rise)
        return odd

    def claim(self, solids: list[Solid], slack: float = 0.02, dry: bool = False) -> bool:
        """Reserve the footprint of solids; False, and nothing reserved, where it does not fit."""
        p = corners(solids)[..., :2].reshape(-1, 2)
        low, high = p.min(0), p.max(0)
        pad = 0.03
        xs = np.array([low[0] + pad, high[0] - pad, low[0] + pad, high[0] - pad])
        ys = np.array([low[1] + pad, low[1] + pad, high[1] - pad, high[1] - pad])
        if not self.inside(xs, ys).all():
            return False
        for a, b in self.taken:
            if (low < b + slack).all() and (high > a - slack).all():
                return False
        if not dry:
            self.taken.append((low, high))
        return True

    def spot(self, rng) -> np.ndarray:
        """Return a random place inside the room, [2] metres."""
        low, high = self.polygon.min(0), self.polygon.max(0)
        for _ in range(50):
            at = rng.uniform(low + 0.2, high - 0.2)
            if self.inside(*at):
                return at
        return self.polygon.mean(0)


def _against_walls(rng, plan: Plan, walls, openings, count: int) -> list[Solid]:
    solids = []
    for _ in range(count):
        wall_row = int(rng.integers(len(walls)))
        wall = walls[wall_row]
        kind = rng.choice(6, p=(0.28, 0.2, 0.17, 0.12, 0.13, 0.1))
        top, size = 0.0, (0.4, 0.4)
        if kind == 0:
            parts, size = seating.sofa(rng)
        elif kind == 1:
            parts, size, top = furniture.cabinet(rng)
        elif kind == 2:
            parts, size = furniture.shelf(rng)
        elif kind == 3:
            parts, size, top = furniture.desk(rng)
        elif kind == 4:
            parts, size, top = furniture.table(rng, low=rng.random() < 0.3)
        else:
            parts, size = seating.bed(rng)
        if top and top < 1.3:
            parts = parts + place(clutter.trinkets(rng, *size), 0, 0, top, 0)
        if size[0] + 0.1 > wall.length:
            continue
        gap = rng.choice((0.02, rng.uniform(0.02, 0.3)))
        for _ in range(4):
            along = rng.uniform(size[0] / 2 + 0.03, wall.length - size[0] / 2 - 0.03)
            put = wall.put(parts, along, gap=gap, turn=rng.choice((0.0, rng.normal(0, 0.06))))
            blocks = any(
                lo < 0.1 and abs(along - (le + r) / 2) < (size[0] + r - le) / 2
                for le, r, lo, _ in openings[wall_row]
            )
            if not blocks and plan.claim(put):
                solids += put
                if kind == 3 and rng.random() < 0.9:
                    seat, depth = seating.chair(rng)
                    seat = place(seat, 0, size[1] + depth[1] * rng.uniform(0.2, 1.0), 0, np.pi)
                    seat = place(seat, 0, 0, 0, rng.normal(0, 0.15))
                    solids += wall.put(seat, along, gap=gap)
                break
    return solids


def _free_standing(rng, plan: Plan, count: int) -> list[Solid]:
    solids = []
    for _ in range(count):
        kind = rng.choice(6, p=(0.25, 0.15, 0.25, 0.1, 0.2, 0.05))
        if kind == 0:
            parts, (w, d), top = furniture.table(rng)
            parts = place(parts, 0, -d / 2, 0, 0) + place(
                clutter.trinkets(rng, w, d), 0, -d / 2, top, 0
            )
            for side in (0, 1, 2, 3):
                along, reach = ((w, d), (d, w))[side % 2]
                for x in np.arange(0.35, along - 0.2, 0.62) - along / 2 + 0.0:
                    if rng.random() < 0.6:
                        seat, (_, deep) = seating.chair(rng)
                        seat = place(
                            seat,
                            x,
                            -reach / 2 - deep * rng.uniform(0.3, 1.1),
                            0,
                            rng.normal(0, 0.2),
                        )
                        parts += place(seat, 0, 0, 0, side * np.pi / 2)
        elif kind == 1:
            parts, (w, d), top = furniture.table(rng, low=True)
            parts = parts + place(clutter.trinkets(rng, w, d), 0, 0, top, 0)
        elif kind == 2:
            parts, _ = seating.chair(rng)
        elif kind == 3:
            parts, _ = seating.sofa(rng, int(rng.integers(1, 3)))
        elif kind == 4:
            make = (clutter.floor_lamp, clutter.plant, clutter.carton, clutter.carton)
            parts = make[rng.integers(4)](rng)
        else:
            parts = clutter.person(rng)
        for _ in range(8):
            put = place(parts, *plan.spot(rng), 0, rng.uniform(-np.pi, np.pi))
            if plan.claim(put):
                solids += put
                break
    return solids


def build_room(rng: np.random.Generator) -> tuple[list[Solid], Plan, float]:
    """Return the solids of a random furnished room, its floor plan and its height in metres."""
    polygon = outline(rng)
    height = rng.uniform(2.3, 3.1)
    solids, walls, openings = shell(rng, polygon, height)
    plan = Plan(polygon)
    area = np.prod(polygon.max(0))
    solids += _against_walls(rng, plan, walls, openings, int(rng.integers(3, 7 + area / 5)))
    solids += _free_standing(rng, plan, int(rng.integers(2, 6 + area / 5)))
    if rng.random() < 0.35:
        at = plan.spot(rng)
        half = rng.uniform(0.5, 1.3, 2)
        rug = [
            box(
                (-half[0], -half[1], 0),
                (half[0], half[1], 0.012),
                FLOOR,
                colour=tuple(rng.random(3)),
                pattern="cloth",
            )
        ]
        solids += place(rug, *at, 0, rng.normal(0, 0.2))
    if rng.random() < 0.4:
        x, y = plan.spot(rng)
        drop = rng.uniform(0.1, 0.9)
        solids.append(rod((x, y, height - drop), (x, y, height), 0.01, OTHER))
        solids += place(clutter.table_lamp(rng)[1:], x, y, height - drop - 0.4, 0)
    return solids, plan, height


def _aim(rng, plan: Plan, at: np.ndarray, height: float):
    """Return eye height, yaw and pitch of a look at a piece of furniture, or anywhere."""
    eye = rng.uniform(0.7, min(1.9, height - 0.3))
    if plan.taken and rng.random() < 0.75:
        low, high = plan.taken[rng.integers(len(plan.taken))]
        goal = rng.uniform(low, high)
    else:
        goal = plan.spot(rng)
    ahead = goal - at
    drop = rng.uniform(0.2, 1.2) - eye
    pitch = np.arctan2(drop, max(float(np.hypot(*ahead)), 0.8)) + rng.normal(0, 0.2)
    return eye, float(np.arctan2(ahead[1], ahead[0])) + rng.normal(0, 0.2), pitch


def _poses(rng, plan: Plan, height: float, count: int):
    """Yield camera places and angles: one slow hand-held path, or looks from all over the room."""
    wander = rng.random() < 0.4
    fresh = True
    for _ in range(count):
        if fresh:
            at = plan.spot(rng)
            eye, yaw, pitch = _aim(rng, plan, at, height)
        good = yield (
            np.array([*at, eye]),
            yaw,
            float(np.clip(pitch, -1.1, 0.7)),
            rng.normal(0, 0.06),
        )
        fresh = wander or not good
        if not fresh:
            step = at + rng.normal(0, 0.2, 2)
            at = step if plan.inside(*step) else at
            eye = float(np.clip(eye + rng.normal(0, 0.12), 0.4, height - 0.2))
            yaw, pitch = yaw + rng.normal(0, 0.25), pitch + rng.normal(0, 0.12)


def _smooth_field(rng, shape, cells: int) -> np.ndarray:
    """Return a smooth random field with standard deviation near 1."""
    coarse = rng.normal(0, 1, (cells + 2, cells + 2)).astype(np.float32)
    y, x = np.linspace(0, cells, shape[0]), np.linspace(0, cells, shape[1])
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = (y - iy)[:, None].astype(np.float32), (x - ix)[None].astype(np.float32)
    rows = coarse[iy] * (1 - fy) + coarse[iy + 1] * fy
    return rows[:, ix] * (1 - fx) + rows[:, ix + 1] * fx


def _spoil(rng, image: RayImage, noise: float, reach: float, quantum: float) -> np.ndarray:
    """Add the errors of a depth camera to `image.distance`; return flat numbers of valid pixels."""
    z = image.distance
    bad = ~np.isfinite(z) | (z < 0.35) | (z > reach) | (image.cosine < rng.uniform(0.03, 0.15))
    bad |= _smooth_field(rng, z.shape, int(rng.integers(4, 12))) > rng.uniform(2.0, 3.5)
    safe = np.where(bad, 1.0, z)
    edge = np.zeros(z.shape, bool)
    jump = np.abs(np.diff(safe, axis=1)) > 0.08 * safe[:, 1:]
    edge[:, 1:] |= jump
    edge[:, :-1] |= jump
    loss = rng.random(z.shape)
    bad |= edge & (loss < rng.uniform(0.2, 0.9))
    # flying pixels: a pixel on an edge mixes both sides
    mix = edge & (loss > 0.97)
    safe = np.where(mix, 0.5 * (safe + np.roll(safe, 1, 1)), safe)
    warp = rng.uniform(0, 0.004) * _smooth_field(rng, z.shape, 6)
    safe = safe + safe * warp + noise * safe**2 * rng.normal(0, 1, z.shape).astype(np.float32)
    if quantum:
        safe = 1 / (np.round(1 / safe / quantum) * quantum)
    np.copyto(image.distance, safe.astype(np.float32))
    return np.flatnonzero(~bad & (safe > 0.2) & np.isfinite(safe))


def thin(xyz: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Return rows of one random point in each cube of `spacing` metres, in ascending order."""
    order = rng.permutation(len(xyz))
    cell = np.floor((xyz[order] - xyz.min(0)) / spacing).astype(np.int64)
    key = (cell[:, 0] * (1 << 40)) + (cell[:, 1] * (1 << 20)) + cell[:, 2]
    return np.sort(order[np.unique(key, return_index=True)[1]])


def generate_room(
    seed: int,
    *,
    cameras: int | None = None,
    spacing: float | None = None,
    pose: bool = True,
) -> PointCloud:
    """Return one labelled room fragment.

    Args:
        seed: the same seed gives the same cloud, bit for bit.
        cameras: number of depth images fused, 1-6; None draws it.
        spacing: metres between neighbouring points; None draws it from 0.01-0.025.
        pose: whether to turn, tilt (up to 3 degrees) and shift the cloud at random; else the
            floor is z = 0 and the first corner the origin.

    Returns:
        Cloud in metres, z up, with attributes rgb uint8 [N, 3] and label int32 [N] of `ROOMS`.
    """
    rng = np.random.default_rng([seed, 1])
    solids, plan, height = build_room(rng)
    cameras = cameras or int(rng.integers(2, 7))
    spacing = spacing or rng.uniform(0.01, 0.025)
    noise = 10 ** rng.uniform(-3.7, -2.65)
    quantum = 0.0 if rng.random() < 0.75 else rng.uniform(0.001, 0.003)
    reach = rng.uniform(3.0, 8.0)
    field = np.radians(rng.uniform(50, 75))
    hulls = corners(solids[2:])
    low, high = hulls.min(1) - 0.25, hulls.max(1) + 0.25
    pieces, tries, limit = [], 0, 40 * cameras
    poses = _poses(rng, plan, height, limit + 1)
    origin, yaw, pitch, roll = next(poses)
    while len(pieces) < cameras and tries < limit:
        tries += 1
        view = PinholeView(origin, yaw, pitch, roll, field=field, shape=(180, 240))
        desperate = tries > limit // 2
        good = desperate or not ((origin > low) & (origin < high)).all(1).any()
        if good:
            image = view.rays()
            cast(image, solids, view.windows(solids, reach), rng)
            # a lens pressed against a wall, or one that looks out of a window, shows nothing
            seen = (image.distance > 0.4) & (image.distance < reach)
            good = seen.mean() > (0.02 if desperate else 0.4)
            good = good and (desperate or np.median(image.distance[seen]) > 0.9)
        if good:
            valid = _spoil(rng, image, noise, reach, quantum)
            owner, cosine = image.owner.reshape(-1)[valid], image.cosine.reshape(-1)[valid]
            points = image.points(valid)
            drift = rng.normal(0, 0.003, 3)
            pieces.append((points + drift, owner, paint(solids, points, owner, cosine, rng)))
        origin, yaw, pitch, roll = poses.send(good)
    xyz, owner, rgb = (np.concatenate(part) for part in zip(*pieces, strict=True))
    kept = thin(xyz, spacing, rng)
    xyz, label = xyz[kept], np.array([s.label for s in solids], np.int32)[owner[kept]]
    if pose:
        tilt = tilt_matrix(0, rng.normal(0, 0.02)) @ tilt_matrix(1, rng.normal(0, 0.02))
        xyz = xyz @ (tilt @ yaw_matrix(rng.uniform(-np.pi, np.pi))).T + rng.uniform(-3, 3, 3)
    xyz = xyz.astype(np.float32).astype(np.float64)
    return PointCloud(xyz, {"rgb": rgb[kept], "label": label}, {})
