"""LZF, the compression inside binary_compressed PCD files."""


def decompress(data: bytes, size: int) -> bytes:
    """Undo LZF.

    A control byte below 32 is followed by that many plus one literal bytes; any other is a copy of
    earlier output: length in the upper three bits (plus a byte when 7), distance in the rest.

    Args:
        data: the compressed bytes.
        size: bytes that must come out; nothing beyond them is produced.

    Returns:
        The plain bytes.

    Raises:
        ValueError: the data do not decode to `size` bytes.

    Source: the format of Marc Lehmann's LibLZF (BSD-2); written anew.
    """
    out = bytearray()
    at, end = 0, len(data)
    while at < end:
        control = data[at]
        at += 1
        if control < 32:
            stop = at + control + 1
            if stop > end:
                raise ValueError("literals beyond the end of the compressed data")
            out += data[at:stop]
            at = stop
        else:
            length = control >> 5
            if at + (length == 7) >= end:
                raise ValueError("a copy cut off at the end of the compressed data")
            if length == 7:
                length += data[at]
                at += 1
            length += 2
            source = len(out) - ((control & 31) << 8) - data[at] - 1
            at += 1
            if source < 0:
                raise ValueError("a copy from before the first byte")
            piece = out[source : source + length]
            # an overlapping copy repeats what it has just written
            while len(piece) < length:
                piece += piece[: length - len(piece)]
            out += piece
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes instead of {size}")
    return bytes(out)
