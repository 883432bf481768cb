"""The page of families says what its script would write, but for what is counted on a scan."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("PIL", reason="pictures are drawn with Pillow")

from sparseconv.nn.cost import Cost
from sparseconv.nn.families import families

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "families.md").read_text(encoding="utf-8")
ENTRIES = families()
# made for a lattice: its parameters are as many as the scan is long
EXTENTS = {"dim"}


@pytest.fixture(scope="module")
def made(script):
    return script("make_families")


def counted(part):
    """Read parameters, operations and their ratio off a family's part of the page."""
    words = " ".join(part.split())
    found = re.search(r"\*\*Cost\.\*\* ([\d,]+) parameters, ([\d,]+) operations", words)
    ratio = re.search(r"\(([\d.]+)( times that)? of a plain", words)
    return int(found[1].replace(",", "")), int(found[2].replace(",", "")), float(ratio[1])


def parts():
    head, *found = re.split(r"(?m)^(?=## \d+\. )", PAGE)
    return head, dict(zip([e.key for e in ENTRIES], found, strict=True))


def test_the_head_is_the_scripts(made):
    head, _ = parts()
    scene = re.search(r"depends on: voxels of (.+?), the darker the blue", head, re.DOTALL)[1]
    index = " · ".join(f"[{e.title}](#{made.anchor(f'{e.number}. {e.title}')})" for e in ENTRIES)
    written = made.HEAD.format(scene=scene, drawn=made.DRAWN, told=made.TOLD, index=index)
    assert head.rstrip() == written.rstrip(), "run docs/make_families.py"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.key)
def test_every_part_is_the_scripts(made, entry):
    part = parts()[1][entry.key]
    parameters, operations, ratio = counted(part)
    # a plain layer whose operations give the ratio the page tells
    found, plain = Cost(parameters, operations, ()), Cost(0, operations / max(ratio, 1e-3), ())
    assert part.rstrip() == made.text(entry, found, 1, plain).strip(), "run docs/make_families.py"
    assert (DOCS / "images" / "families" / f"{entry.key}.png").exists()
    if entry.key not in EXTENTS:
        layer = entry.make(made.TOLD, made.TOLD, (100, 100, 100))
        assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == parameters


def test_no_picture_is_of_a_family_that_is_gone():
    names = {path.stem for path in (DOCS / "images" / "families").glob("*.png")}
    assert names == {e.key for e in ENTRIES}


def test_links_lead_to_headings(made):
    headings = {made.anchor(line[3:]) for line in PAGE.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) == headings


def test_a_crop_begins_at_0_and_keeps_its_site(made):
    coords = torch.tensor([[0, 5, 5, 5], [0, 6, 5, 5], [0, 90, 5, 5]], dtype=torch.int32)
    kept, row = made.crop(coords, [6, 5, 4])
    assert kept.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]] and row == 1
    assert len(made.crop(coords, None)[0]) == 2
