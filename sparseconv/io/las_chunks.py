"""What a LAZ file claims of its chunks, checked before the decoder allocates for it."""

import os
import struct
from typing import BinaryIO

from sparseconv._optional import require
from sparseconv.io.errors import malformed

# layers per chunk by LASzip item type (point, rgb, rgb and nir, wave packet); extra bytes: size
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
_EXTRA_BYTES = 14
_VARIABLE = 0xFFFFFFFF


def check_chunks(
    file: BinaryIO, path: str | os.PathLike, start: int, size: int, points: int, width: int, vlrs
) -> None:
    """Refuse a chunk table or a chunk that reaches beyond its bytes.

    Args:
        file: the open file.
        path: its name, for errors.
        start: first byte of the point data.
        size: bytes of the file.
        points: the header's number of points.
        width: bytes of a point record.
        vlrs: (user id, record id, data) of every VLR.

    Raises:
        FileFormatError: a claim exceeds the file.

    Source: the LASzip specification (table offset, table, layered chunks of LAS 1.4); the entropy
        coded part of the table is decoded by lazrs.
    """
    laszip = [data for user, record, data in vlrs if (user, record) == ("laszip encoded", 22204)]
    if len(laszip) != 1 or len(laszip[0]) < 34:
        raise malformed(path, "one 'laszip encoded' VLR", f"{len(laszip)} usable")
    compressor = struct.unpack_from("<H", laszip[0])[0]
    chunk, _, _, count = struct.unpack_from("<IqqH", laszip[0], 12)
    if compressor not in (2, 3):
        cure = "rewrite the file with laszip or pdal"
        raise malformed(path, "LAZ in chunks (compressor 2 or 3)", compressor, cure)
    if len(laszip[0]) < 34 + 6 * count:
        raise malformed(path, f"{count} items in the LASzip VLR", f"{len(laszip[0])} bytes")
    items = [struct.unpack_from("<HH", laszip[0], 34 + 6 * k) for k in range(count)]
    if sum(item[1] for item in items) != width:
        raise malformed(path, f"LASzip items of {width} bytes together", items)
    file.seek(start)
    (table,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
    if table == -1:
        file.seek(size - 8)
        (table,) = struct.unpack("<q", file.read(8))
    if not start + 8 <= table <= size - 8:
        raise malformed(path, f"a LAZ chunk table between {start + 8} and {size}", table)
    file.seek(table)
    _, chunks = struct.unpack("<II", file.read(8))
    # every chunk begins with one plain record
    if chunks * width > table - start:
        wanted = f"chunks of at least {width} bytes in {table - start}"
        raise malformed(path, wanted, f"{chunks} chunks")
    if chunk != _VARIABLE and not (chunks - 1) * chunk < points <= chunks * chunk:
        raise malformed(path, f"{points} points in chunks of {chunk}", f"{chunks} chunks")
    lazrs = require("lazrs", extra="io")
    file.seek(start)
    entries = lazrs.read_chunk_table(file, lazrs.LazVlr(laszip[0]))
    if sum(entry[1] for entry in entries) > table - start - 8:
        raise malformed(path, f"chunks of {table - start - 8} bytes together", entries[:8])
    if chunk == _VARIABLE and sum(entry[0] for entry in entries) != points:
        raise malformed(path, f"{points} points in all chunks", sum(entry[0] for entry in entries))
    if compressor == 3:
        _check_layers(file, path, start + 8, [entry[1] for entry in entries], width, items)


def _check_layers(file: BinaryIO, path, at: int, sizes: list[int], width: int, items) -> None:
    layers = sum(length if kind == _EXTRA_BYTES else _LAYERS.get(kind, 0) for kind, length in items)
    for size in sizes:
        file.seek(at + width)
        head = file.read(4 + 4 * layers)
        claimed = sum(struct.unpack(f"<{len(head) // 4}I", head[: len(head) // 4 * 4])[1:])
        if len(head) < 4 + 4 * layers or width + len(head) + claimed > size:
            found = f"layers of {claimed} bytes in one of {size}"
            raise malformed(path, f"{layers} layers that fit into their chunk", found)
        at += size
