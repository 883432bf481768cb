"""Recipes as plain data."""

import dataclasses

import pytest
import torch

from sparseconv.datasets.labels import LabelTable
from sparseconv.tasks import recipe as recipes
from sparseconv.tasks.recipe import Recipe

FOLDER = recipes.for_folder(LabelTable("", ("a", "b"), ((0, 0, 0), (9, 9, 9))), 12.0)


@pytest.mark.parametrize("recipe", [recipes.rooms(), recipes.streets(0.1), FOLDER])
def test_a_recipe_survives_a_safe_load(recipe, tmp_path):
    torch.save(recipe.to_plain(), tmp_path / "recipe.pt")
    plain = torch.load(tmp_path / "recipe.pt", weights_only=True)
    assert Recipe.from_plain(plain) == recipe


def test_a_recipe_of_another_version_is_refused_with_the_field():
    plain = recipes.rooms().to_plain()
    with pytest.raises(ValueError, match=r"recipe: expected .* found \['voxel'\]; .*train again"):
        Recipe.from_plain({name: value for name, value in plain.items() if name != "voxel"})
    with pytest.raises(ValueError, match=r"found \['speed'\]"):
        Recipe.from_plain(plain | {"speed": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [("voxel", 0.0), ("voxel", float("nan")), ("gravity", "up"), ("classes", ("one",))],
)
def test_values_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(recipes.rooms(), **{field: value})


def test_a_folder_of_wide_scans_gets_large_voxels():
    table = LabelTable("", ("a", "b"), ((0, 0, 0), (9, 9, 9)))
    wide = recipes.for_folder(table, 80.0)
    assert wide.voxel > FOLDER.voxel
    assert wide.range_unit is None
    assert wide.table.colours.tolist() == [[0, 0, 0], [9, 9, 9]]
