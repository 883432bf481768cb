"""Write the legend under a picture."""

import numpy as np

from sparseconv._optional import require
from sparseconv.viz.colouring import Legend
from sparseconv.viz.palette import ramp_rgb


def with_legend(
    image: np.ndarray,  # [height, width, 3]
    legend: Legend,
    *,
    background: tuple[int, int, int],
    caption: str = "",
) -> np.ndarray:
    """Return the picture with a strip below it that says what the colours mean.

    Args:
        image: uint8 [height, width, 3].
        legend: what the colours mean.
        background: colour of the strip.
        caption: what is written at the right end, such as the file and its number of points.

    Returns:
        uint8 [height + strip, width, 3]; the strip is `strip_height(legend, width)` pixels high.
    """
    drawing = require("PIL.ImageDraw", extra="io")
    pictures = require("PIL.Image", extra="io")
    width = image.shape[1]
    strip = pictures.new("RGB", (width, strip_height(legend, width)), background)
    pen = drawing.Draw(strip)
    text = (40, 40, 40) if sum(background) > 380 else (225, 225, 225)
    font = _font(width)
    unit = _unit(width)
    if legend.ramp:
        _draw_ramp(strip, pen, font, legend, unit, text)
    for (x, y), (name, colour, share) in zip(
        _places(legend, width, font), legend.entries, strict=True
    ):
        edge = tuple(int(0.75 * channel) for channel in colour)
        pen.rounded_rectangle(
            (x, y, x + unit, y + unit), radius=unit // 5, fill=colour, outline=edge
        )
        pen.text(
            (x + 1.45 * unit, y + unit / 2), _entry(name, share), fill=text, font=font, anchor="lm"
        )
    if caption and not legend.entries:
        right = (width - unit, strip.height / 2)
        pen.text(right, caption, fill=text, font=font, anchor="rm")
    return np.concatenate([image, np.asarray(strip)], axis=0)


def strip_height(legend: Legend, width: int) -> int:
    """Return the height in pixels of the strip that `with_legend` adds."""
    unit = _unit(width)
    places = _places(legend, width, _font(width))
    lines = 1 + round((places[-1][1] - places[0][1]) / _line(unit)) if places else 1
    return int(lines * _line(unit) + unit)


def _entry(name: str, share: float) -> str:
    percent = f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"
    return f"{name}  {percent}"


def _places(legend: Legend, width: int, font: object) -> list[tuple[int, int]]:
    """Return the upper left corner of every entry, wrapped into lines and set in columns."""
    unit = _unit(width)
    texts = [_entry(name, share) for name, _, share in legend.entries]
    widest = max((font.getlength(text) for text in texts), default=0)
    column = int(widest + 3 * unit)
    columns = max(1, min(len(texts), (width - unit) // column))
    # even lines: seven in four columns are four and three, not six and one
    lines = -(-len(texts) // columns)
    columns = -(-len(texts) // max(lines, 1)) or 1
    left = max(unit, (width - columns * column) // 2)
    return [
        (left + (i % columns) * column, int(0.9 * unit + (i // columns) * _line(unit)))
        for i in range(len(texts))
    ]


def _draw_ramp(
    strip: object, pen: object, font: object, legend: Legend, unit: int, text: tuple
) -> None:
    pictures = require("PIL.Image", extra="io")
    length = min(16 * unit, strip.width // 3)
    colours = ramp_rgb(np.linspace(0, 1, length), legend.ramp)
    bar = np.repeat(colours[None], unit, axis=0)
    top, middle = int(0.9 * unit), int(0.9 * unit) + unit / 2
    x = unit
    for part in (legend.title, f"{legend.low:.3g}"):
        pen.text((x, middle), part, fill=text, font=font, anchor="lm")
        x += int(font.getlength(part)) + unit
    strip.paste(pictures.fromarray(bar), (x, top))
    pen.text((x + length + unit, middle), f"{legend.high:.3g}", fill=text, font=font, anchor="lm")


def _unit(width: int) -> int:
    return max(8, width // 64)


def _line(unit: int) -> int:
    return int(1.6 * unit)


def _font(width: int) -> object:
    return require("PIL.ImageFont", extra="io").load_default(size=max(9, round(_unit(width) * 0.9)))
