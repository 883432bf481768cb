"""What a LAS header claims, checked against the file before a library allocates for it."""

import os
import struct

from sparseconv.io.errors import malformed, printable
from sparseconv.io.las_chunks import check_chunks

# bytes of a point record by point format, LAS 1.4 revision 15, tables 7-17
_RECORD = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)
_HEADER = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375}
_LINEAR_UNITS = {9001: "metre", 9002: "foot", 9003: "us-survey-foot"}


def check_header(path: str | os.PathLike) -> str | None:
    """Refuse a LAS or LAZ file whose header does not fit the file.

    Args:
        path: the file.

    Returns:
        The unit of its coordinates where its GeoTIFF keys or WKT tell: `metre`, `foot`,
        `us-survey-foot` or `degree`; None when they do not.

    Raises:
        FileFormatError: a size or count of the header exceeds the file.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(375)
        if head[:4] != b"LASF":
            raise malformed(path, "a LAS file, which begins with 'LASF'", printable(head))
        if len(head) < 227:
            raise malformed(path, "a LAS header of 227 bytes", f"{len(head)} bytes")
        major, minor = head[24], head[25]
        least = _HEADER.get(minor) if major == 1 else None
        if least is None:
            raise malformed(path, "LAS version 1.0 to 1.4", f"{major}.{minor}")
        length, start, records, form, width, points = struct.unpack_from("<HIIBHI", head, 94)
        if not least <= length <= start <= size:
            wanted = f"header size {least} or more, then the offset of the points, then {size}"
            raise malformed(path, wanted, f"header size {length}, offset {start}")
        if records * 54 > start - length:
            wanted = f"VLRs that fit into {start - length} bytes"
            raise malformed(path, wanted, f"a count of {records} VLRs of at least 54 bytes each")
        compressed, form = form & 0xC0, form & 0x3F
        if form >= len(_RECORD) or width < _RECORD[form]:
            found = f"format {form} of {width} bytes"
            raise malformed(path, "point format 0 to 10 and its record length", found)
        scales = struct.unpack_from("<6d", head, 131)
        # x - x is 0 for finite numbers only
        if any(value - value != 0 for value in scales) or 0 in scales[:3]:
            raise malformed(path, "finite scales and offsets, scales not 0", list(scales))
        vlrs = _records(file, path, length, start, records, "<H16sHH32s")
        if minor == 4:
            at, count = struct.unpack_from("<QI", head, 235)
            points = struct.unpack_from("<Q", head, 247)[0]
            if count:
                if at < start or at + count * 60 > size:
                    wanted = f"EVLRs between the points and the end, {size}"
                    raise malformed(path, wanted, f"{count} at byte {at}")
                vlrs += _records(file, path, at, size, count, "<H16sHQ32s")
        if not compressed and points * width > size - start:
            wanted = f"{points} points of {width} bytes"
            raise malformed(path, wanted, f"{size - start} bytes after the header")
        if compressed and points:
            check_chunks(file, path, start, size, points, width, vlrs)
        return _unit(vlrs)


def _records(file, path, at: int, end: int, count: int, layout: str) -> list[tuple]:
    found = []
    width = struct.calcsize(layout)
    for number in range(count):
        file.seek(at)
        head = file.read(width)
        if len(head) < width or at + width > end:
            raise malformed(path, f"{count} VLRs before byte {end}", f"only {number}")
        _, user, record, length, _ = struct.unpack(layout, head)
        at += width + length
        if at > end:
            wanted = f"VLR {number + 1} of {count} to end before byte {end}"
            raise malformed(path, wanted, f"a length of {length} bytes")
        data = file.read(min(length, 1 << 16))
        found.append((user.split(b"\0")[0].decode("latin-1"), record, data))
    return found


def _unit(vlrs: list[tuple]) -> str | None:
    for user, record, data in vlrs:
        if user != "LASF_Projection":
            continue
        if record == 34735 and len(data) >= 8:
            count = min(struct.unpack_from("<H", data, 6)[0], len(data) // 8 - 1)
            entries = (struct.unpack_from("<4H", data, 8 + 8 * k) for k in range(count))
            keys = {key: value for key, place, _, value in entries if place == 0}
            if keys.get(3076) in _LINEAR_UNITS:
                return _LINEAR_UNITS[keys[3076]]
            if keys.get(1024) == 2:
                return "degree"
        if record == 2112:
            text = data.decode("latin-1").lower().replace(" ", "")
            units = [part.split('"')[1] for part in text.split("unit[")[1:] if '"' in part]
            projected = "projcs[" in text or "projcrs[" in text
            names = [u for u in units if projected and "degree" not in u]
            for unit in names:
                if "foot" in unit or "feet" in unit:
                    return "us-survey-foot" if "survey" in unit or "us" in unit else "foot"
                if unit in ("metre", "meter", "m"):
                    return "metre"
            if "geogcs[" in text and not projected:
                return "degree"
    return None
