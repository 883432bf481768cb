"""Networks on disk: weights and recipe in one file of plain data."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.models.mink_unet import MinkUNetSmall
from sparseconv.tasks.recipe import Recipe

FORMAT = "sparseconv checkpoint"
VERSION = 1
PRETRAINED = Path(__file__).resolve().parent.parent / "models" / "pretrained"
BUILT_IN = ("rooms", "streets")
# what torch.load raises for files it did not write, or that are cut short
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
)


def make_network(recipe: Recipe) -> MinkUNetSmall:
    """Return the untrained network of a recipe."""
    return MinkUNetSmall(
        recipe.in_channels,
        len(recipe.classes),
        recipe.channels,
        blocks=recipe.blocks,
        conv=recipe.conv,
    )


def save_checkpoint(
    path: str | Path,
    network: nn.Module,
    recipe: Recipe,
    *,
    training: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint: under a temporary name first, so that no half file can stay.

    Args:
        path: of the file.
        network: whose weights and statistics to keep.
        recipe: of the network.
        training: what is needed to go on training; tensors and plain data.
        half: keep convolution weights as float16, half the size.
    """
    path = Path(path)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "recipe": recipe.to_plain(),
        "weights": {
            name: value.detach().to("cpu", torch.float16 if half and value.dim() > 1 else None)
            for name, value in network.state_dict().items()
        },
    }
    if training is not None:
        content["training"] = training
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".pt", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | Path) -> tuple[nn.Module, Recipe, dict[str, Any] | None]:
    """Read a checkpoint.

    Args:
        path: of the file, or the name of a model in the package: `"rooms"`, `"streets"`.

    Returns:
        The network, ready for evaluation; its recipe; and the state of training, if kept.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or of another version, or its weights do not fit.
    """
    path = _located(path)
    content = _content(path)
    recipe = Recipe.from_plain(content["recipe"])
    network = make_network(recipe)
    load_weights(network, content["weights"], str(path))
    return network.eval(), recipe, content.get("training")


def load_weights(network: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Put weights into a network, or say which do not fit.

    Raises:
        ValueError: a weight is missing, unknown, or of another shape.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.items()}
    if wanted != given:
        key = sorted(set(wanted.items()) ^ set(given.items()))[0][0]
        raise ValueError(
            complain(
                name,
                f"weight {key} of shape {wanted.get(key, 'none')}",
                f"{given.get(key, 'none')}",
                "the file belongs to a network of other channels or classes",
            )
        )
    network.load_state_dict(weights)


def _located(path: str | Path) -> Path:
    if str(path) in BUILT_IN:
        path = PRETRAINED / f"{path}.pt"
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        cure = f"name a file made by `sparseconv train`, or one of {', '.join(BUILT_IN)}"
        raise FileNotFoundError(complain(str(path), "a checkpoint file", found, cure))
    return path


def _content(path: Path) -> dict[str, Any]:
    cure = "name a file made by `sparseconv train`, such as run/best.pt"
    # read first, so that a file that may not be read is no broken checkpoint
    data = io.BytesIO(path.read_bytes())
    try:
        content = torch.load(data, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
    ) as fault:
        found = f"a file torch cannot load safely ({type(fault).__name__})"
        raise ValueError(complain(str(path), "a checkpoint of sparseconv", found, cure)) from fault
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = f"a torch file with {_described(content)}"
        raise ValueError(complain(str(path), "a checkpoint of sparseconv", found, cure))
    if content["version"] != VERSION:
        found = f"version {content['version']}"
        cure = "use the version of sparseconv that wrote it, or train again"
        raise ValueError(complain(str(path), f"checkpoint version {VERSION}", found, cure))
    return content


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"the keys {', '.join(map(str, list(content)[:4]))}" if content else "no keys"
    return f"a {type(content).__name__}"
