import pytest
import torch

from sparseconv.testing import scenes


@pytest.mark.parametrize("name", scenes.NAMES)
def test_scene_is_what_it_says(name):
    view = scenes.scene(name)
    assert len(view.reason) > 20
    assert view.coords.dtype == torch.int32 and view.coords.shape[1] == 4
    assert view.coords.is_contiguous()
    if len(view.coords):
        assert view.coords[:, 0].min() >= 0 and view.coords[:, 0].max() < view.batch_size
    if view.spatial_shape is not None:
        assert (view.coords[:, 1:] >= 0).all()
        assert (view.coords[:, 1:] < torch.tensor(view.spatial_shape)).all()
    assert view.unique == (name in scenes.UNIQUE)
    torch.testing.assert_close(view.features(3), view.features(3), rtol=0, atol=0)


def test_limits_are_reached():
    coords = scenes.scene("int32_limits").coords
    assert coords.min() == -(2**31) and coords.max() == 2**31 - 1


def test_room_has_about_the_sites_asked_for_and_none_twice():
    coords = scenes.room(5000)
    assert 4000 < len(coords) < 6500
    assert len(torch.unique(coords, dim=0)) == len(coords)
    assert not torch.equal(coords, torch.unique(coords, dim=0))


def test_unknown_scene_names_the_known_ones():
    with pytest.raises(KeyError, match="full_cube"):
        scenes.scene("cathedral")
