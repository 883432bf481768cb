import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud
from sparseconv.transforms.colour import ColourNoise, DropColour, Tint
from sparseconv.transforms.compose import Compose, Sometimes
from sparseconv.transforms.crop import CropBall, CropBox, DropFar, DropPoints
from sparseconv.transforms.jitter import Jitter
from sparseconv.transforms.rigid import Flip, Scale, Shift, Tilt, Yaw

RIGID = [Yaw(), Tilt(), Flip(), Shift(3.0)]
CROPS = [CropBall(2.0), CropBox((2.0, 3.0, np.inf)), DropPoints(0.5), DropFar(6.0)]
COLOURS = [Tint(), ColourNoise(), DropColour(1.0)]
EVERY = [*RIGID, Scale(), Jitter(), *CROPS, *COLOURS]


def ids(transforms):
    return [type(t).__name__ for t in transforms]


def cloud(points=500, dtype=np.uint8):
    rng = np.random.default_rng(8)
    normal = rng.normal(0, 1, (points, 3))
    return PointCloud(
        rng.uniform(-4, 4, (points, 3)),
        {
            "rgb": rng.integers(0, np.iinfo(dtype).max, (points, 3)).astype(dtype),
            "normal": (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32),
            "label": np.arange(points, dtype=np.int32),
        },
        {"source": "here"},
    )


def same(one, two):
    return one.xyz.tobytes() == two.xyz.tobytes() and all(
        one.attributes[n].tobytes() == two.attributes[n].tobytes() for n in one.attributes
    )


@pytest.mark.parametrize("transform", EVERY, ids=ids(EVERY))
def test_laws_of_every_transform(transform):
    given = cloud()
    before = given.xyz.copy(), {n: v.copy() for n, v in given.attributes.items()}
    one = transform(given, np.random.default_rng(1))
    assert same(one, transform(given, np.random.default_rng(1)))
    np.testing.assert_array_equal(given.xyz, before[0])
    for name, values in before[1].items():
        np.testing.assert_array_equal(given.attributes[name], values)
        assert one.attributes[name].dtype == values.dtype
    assert one.meta == given.meta and list(one.attributes) == list(given.attributes)
    assert (np.diff(one.attributes["label"]) > 0).all()
    assert not same(one, given) or isinstance(transform, Flip)
    assert len(transform(given.select([]), np.random.default_rng(2))) == 0


@pytest.mark.parametrize("transform", RIGID, ids=ids(RIGID))
def test_rigid_moves_keep_distances_and_the_angle_to_normals(transform):
    given = cloud()
    moved = transform(given, np.random.default_rng(3))
    for rows in np.random.default_rng(0).integers(500, size=(50, 2)):
        edges = [c.xyz[rows[1]] - c.xyz[rows[0]] for c in (given, moved)]
        assert np.linalg.norm(edges[0]) == pytest.approx(np.linalg.norm(edges[1]))
        angles = [
            e @ c.attributes["normal"][rows[0]] for e, c in zip(edges, (given, moved), strict=True)
        ]
        assert angles[0] == pytest.approx(angles[1], abs=1e-5)


def test_yaw_keeps_heights_and_tilt_stays_small():
    given = cloud()
    np.testing.assert_array_equal(Yaw()(given, np.random.default_rng(0)).xyz[:, 2], given.xyz[:, 2])
    up = PointCloud([[0.0, 0.0, 1.0]])
    for seed in range(50):
        leaning = Tilt(0.05)(up, np.random.default_rng(seed)).xyz[0, 2]
        assert np.arccos(min(leaning, 1.0)) <= 0.05 + 1e-9


def test_flips_mirror_only_the_level_axes():
    seen = set()
    for seed in range(40):
        ratio = Flip()(cloud(), np.random.default_rng(seed)).xyz[0] / cloud().xyz[0]
        seen.add(tuple(int(s) for s in np.sign(ratio)))
    assert seen == {(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)}


def test_scale_is_one_factor_within_its_limits():
    ratio = Scale(0.5, 0.8)(cloud(), np.random.default_rng(0)).xyz / cloud().xyz
    assert np.ptp(ratio) < 1e-12 and 0.5 <= ratio.min() <= 0.8


def test_jitter_has_its_sigma_and_is_cut():
    given = cloud(20_000)
    noise = Jitter(0.1, clip=2.0)(given, np.random.default_rng(0)).xyz - given.xyz
    assert noise.std() == pytest.approx(0.1, rel=0.15) and np.abs(noise).max() <= 0.2 + 1e-12


def test_crops_keep_exactly_the_points_inside():
    given = cloud()
    ball = CropBall(2.0)(given, np.random.default_rng(4))
    # the middle is the point whose ball it is
    gaps = np.linalg.norm(given.xyz[:, None] - given.xyz[None], axis=2) <= 2.0
    members = {tuple(np.flatnonzero(row)) for row in gaps}
    assert tuple(ball.attributes["label"]) in members
    part = CropBox((2.0, 3.0, np.inf))(given, np.random.default_rng(4))
    assert (np.ptp(part.xyz, axis=0)[:2] <= (2.0, 3.0)).all() and 0 < len(part) < len(given)


def test_drops_remove_the_expected_share():
    given = cloud(20_000)
    kept = [len(DropPoints(0.5)(given, np.random.default_rng(s))) / 20_000 for s in range(40)]
    assert min(kept) > 0.48 and np.mean(kept) == pytest.approx(0.75, abs=0.08)
    far = DropFar(8.0)(given, np.random.default_rng(0))
    assert np.linalg.norm(far.xyz, axis=1).mean() < np.linalg.norm(given.xyz, axis=1).mean()
    near = given.replace(xyz=given.xyz * 1e-6)
    assert len(DropFar(8.0)(near, np.random.default_rng(0))) == 20_000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_keep_their_scale(dtype):
    given = cloud(dtype=dtype)
    noisy = ColourNoise(0.01)(given, np.random.default_rng(0)).attributes["rgb"]
    apart = noisy.astype(float) - given.attributes["rgb"]
    assert 0 < np.abs(apart).mean() < 0.02 * np.iinfo(dtype).max
    grey = DropColour(1.0)(given, np.random.default_rng(0)).attributes["rgb"]
    assert np.unique(grey).size == 1


@pytest.mark.parametrize("transform", COLOURS, ids=ids(COLOURS))
def test_clouds_without_colour_pass(transform):
    bare = PointCloud(np.zeros((3, 3)))
    assert transform(bare, np.random.default_rng(0)) is bare


def test_compose_applies_in_order_and_shares_the_generator():
    given = cloud()
    both = Compose([Yaw(), Scale()])(given, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    assert same(both, Scale()(Yaw()(given, rng), rng))
    assert Compose([])(given, rng) is given


def test_sometimes_is_never_or_always_at_its_ends():
    given = cloud()
    assert Sometimes(Yaw(), 0.0)(given, np.random.default_rng(0)) is given
    assert not same(Sometimes(Yaw(), 1.0)(given, np.random.default_rng(0)), given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CropBall(0),
        lambda: CropBall(float("nan")),
        lambda: CropBox((1, 0, 1)),
        lambda: CropBox((1, 1)),
        lambda: DropPoints(1.0),
        lambda: DropFar(-1),
        lambda: Scale(0, 1),
        lambda: Scale(2, 1),
        lambda: Jitter(-1),
        lambda: Sometimes(Yaw(), 2),
    ],
)
def test_senseless_arguments_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_step_must_be_callable():
    with pytest.raises(TypeError, match=r"steps\[1\]"):
        Compose([Yaw(), 3])
