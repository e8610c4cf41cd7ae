"""What the header of a JPEG says, without decoding it."""

from typing import NamedTuple

# Larger images are treated as decompression bombs; Pillow warns from this size on, too.
MAX_PIXELS = 89_478_485
# A progressive file has about 10. Each takes a pass over all pixels, however few bytes it has.
MAX_SCANS = 500
_ORIENTATION = 0x0112  # EXIF tag: 1 is upright, 2 to 8 are mirrored or rotated


class Frame(NamedTuple):
    """A JPEG's frame header: size in pixels, offset in the file, and whether it has one scan."""

    height: int
    width: int
    offset: int
    sequential: bool


def plain_jpeg_frame(encoded: bytes) -> Frame | None:
    """The frame header of an upright grey or RGB JPEG of 8 bits; None for anything else."""
    if encoded[:2] != b"\xff\xd8":
        return None
    offset = 2
    while len(encoded) >= offset + 10 and encoded[offset] == 0xFF:
        marker, length = encoded[offset + 1], int.from_bytes(encoded[offset + 2 : offset + 4])
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            precision, components = encoded[offset + 4], encoded[offset + 9]
            height = int.from_bytes(encoded[offset + 5 : offset + 7])
            width = int.from_bytes(encoded[offset + 7 : offset + 9])
            plain = precision == 8 and components in (1, 3) and 0 < height * width <= MAX_PIXELS
            if not plain or (marker == 0xC2 and scans(encoded) > MAX_SCANS):
                return None
            return Frame(height, width, offset, marker != 0xC2)
        if marker == 0xE1 and _is_rotated(encoded[offset + 4 : offset + 2 + length]):
            return None
        # Fill bytes, or a marker that does not belong in a header: leave the file to Pillow.
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xDA:
            return None
        offset += 2 + length
    return None


def _is_rotated(segment: bytes) -> bool:
    """Whether the EXIF data in an APP1 segment of a JPEG says that the image is not upright.

    Parsed by hand, since Pillow warns about every damaged tag and takes longer.
    """
    if segment[:6] != b"Exif\0\0":
        return False
    order = "little" if segment[6:8] == b"II" else "big"

    def number(offset: int, length: int) -> int:
        return int.from_bytes(segment[6 + offset : 6 + offset + length], order)

    start = number(4, 4)
    for entry in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        if number(entry, 2) == _ORIENTATION:
            return number(entry + 8, 2) in range(2, 9)
    return False


def scans(encoded: bytes) -> int:
    """At least the number of scans: what begins one is found elsewhere, too, but rarely."""
    return encoded.count(b"\xff\xda")
