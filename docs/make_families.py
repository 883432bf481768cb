"""Write docs/families.md and its pictures: what each family of convolutions reads on a real scan.

python docs/make_families.py fragment.pcd --voxel 0.02 --site 131 72 68 --up=-y
"""

import argparse
import os
from pathlib import Path

import torch
from PIL import Image

import sparseconv as sc
from sparseconv.bench.families import family_layer, scan_tensor
from sparseconv.cli.progress import Progress
from sparseconv.io.atomic import replacing
from sparseconv.nn.cost import Cost, cost
from sparseconv.nn.families import families
from sparseconv.nn.family import Family
from sparseconv.viz.orientation import up_vector
from sparseconv.viz.receptive_field import receptive_field

DOCS = Path(__file__).parent
PICTURES = DOCS / "images" / "families"
SAMPLE = DOCS.parent / "datasets" / "samples" / "room.ply"
# channels of the layers drawn, and of those whose cost is told
DRAWN, TOLD = 8, 64
# sites farther than this from the one drawn are left out, voxels
REACH = 24

HEAD = """# The families

Every family of convolutions that the catalogues name, as a layer on sparse voxels.
`sc.nn.families()` lists them, `sparseconv families` prints what they cost,
`sparseconv families --bench scan.ply` times them on a scan of yours, and each drops into a net,
as in `sc.models.MinkUNet(4, 20, conv="involution")`. All take a `SparseTensor` or, with the same
parameters, a dense `(B, C, X, Y, Z)` tensor. [docs/conventions.md](conventions.md) has the
letters: `x[n]` are the features of site n; a sum over taps runs over those whose site is active.

The pictures show what one output (red) depends on: voxels of {scene}, the darker the blue the
larger the derivative of that output with respect to their features, in a layer of {drawn} channels
with random weights (`sc.viz.receptive_field`). Grey voxels are not read. This page and its
pictures are made by `docs/make_families.py`. Parameters and operations are those of {told}
channels in and out, operations a voxel of that scan, two a multiply-add.

{index}
"""
ENTRY = """
## {number}. {title}

`sc.nn.{layer}` · `conv="{key}"` · {paper}

![what one output of {key} reads](images/families/{key}.png)

{summary}

```
{formula}
```

**On sparse sites.** {on_sparse}

**When.** {use_when}

**Cost.** {parameters:,} parameters, {flops:,.0f} operations a voxel ({ratio} of a plain 3³
convolution); made of {primitives}.
"""


def crop(coords: torch.Tensor, site: list[int] | None) -> tuple[torch.Tensor, int]:
    """Return the sites around one of them, moved to 0, and its row."""
    xyz = coords[:, 1:]
    if site is None:
        row = int((xyz - xyz.float().mean(0)).square().sum(1).argmin())
    else:
        row = int((xyz - torch.tensor(site)).abs().sum(1).argmin())
    near = ((xyz - xyz[row]).abs() <= REACH).all(1)
    kept = coords[near].clone()
    low = kept[:, 1:].amin(0)
    kept[:, 1:] -= low
    return kept, int((kept[:, 1:] == xyz[row] - low).all(1).nonzero()[0])


def draw(entry: Family, x: sc.SparseTensor, row: int, up: list[float]) -> None:
    """Draw what one output of a family reads."""
    layer = family_layer(entry, x, stir=0.25).eval()
    field = receptive_field(layer, x, row)
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(field.render(size=(480, 360), up=up))
    with replacing(PICTURES / f"{entry.key}.png") as file:
        picture.quantize(96, Image.Quantize.FASTOCTREE).save(file, format="PNG", optimize=True)


def text(entry: Family, found: Cost, voxels: int, plain: Cost) -> str:
    """Return a family's part of the page."""
    share = found.flops / plain.flops
    return ENTRY.format(
        **{name: getattr(entry, name) for name in ("number", "title", "key", "paper", "formula")},
        summary=entry.summary,
        on_sparse=entry.on_sparse,
        use_when=entry.use_when,
        layer=entry.layer.__name__,
        parameters=found.parameters,
        flops=found.flops / voxels,
        ratio=f"{share:.2f}" if share < 10 else f"{share:.0f} times that",
        primitives=", ".join(f"`{name}`" for name in entry.primitives),
    )


def main() -> None:
    """Draw every family and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    real = Path(os.environ.get("SPARSECONV_REALDATA", "")) / "open3d" / "fragment.pcd"
    parser.add_argument("scan", nargs="?", type=Path, default=real if real.exists() else SAMPLE)
    parser.add_argument("--voxel", type=float, default=0.02, help="edge of a voxel, metres")
    parser.add_argument("--site", type=int, nargs=3, help="voxel to draw; the middle one if none")
    parser.add_argument("--up", default="auto", help="axis that points up")
    parser.add_argument("--only", nargs="*", help="draw these families alone")
    parser.add_argument("--name", default="", help="what the page calls the scan")
    args = parser.parse_args()

    cloud = sc.io.read(args.scan)
    up = up_vector(cloud.xyz, args.up).tolist()
    sites = sc.voxelize(cloud, args.voxel)[0].coords
    coords, row = crop(sites, args.site)
    sites[:, 1:] -= sites[:, 1:].amin(0)
    near, whole = scan_tensor(coords, DRAWN), scan_tensor(sites, TOLD)
    entries = families()
    plain = cost(family_layer(sc.nn.family("submanifold"), whole).eval(), whole)
    parts = []
    with Progress() as progress:
        for done, entry in enumerate(entries):
            progress("families", done, len(entries))
            if args.only is None or entry.key in args.only:
                draw(entry, near, row, up)
            found = cost(family_layer(entry, whole).eval(), whole)
            parts.append(text(entry, found, len(whole), plain))
    index = " · ".join(
        f"[{entry.title}](#{anchor(f'{entry.number}. {entry.title}')})" for entry in entries
    )
    name = args.name or f"`{args.scan.name}` at {100 * args.voxel:g} cm"
    head = HEAD.format(scene=name, drawn=DRAWN, told=TOLD, index=index)
    with replacing(DOCS / "families.md") as file:
        file.write((head + "".join(parts)).encode())
    print(f"{len(entries)} families, {PICTURES}")


def anchor(title: str) -> str:
    """Return what a title is called in a link."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


if __name__ == "__main__":
    main()
