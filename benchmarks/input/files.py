"""The JPEG files to read: from a folder, or synthetic ones."""

import io
import pathlib

import numpy as np
from PIL import Image

NUM_SYNTHETIC = 100
SYNTHETIC_BYTES = 110_000


def find_images(folder: pathlib.Path) -> list[str]:
    """The paths of all JPEG files in `folder`.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(
        str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg")
    )
    if not paths:
        raise ValueError(f"no .JPEG or .jpg files in {folder}")
    return paths


def write_synthetic_images(folder: pathlib.Path) -> None:
    """Writes the synthetic JPEGs, always the same ones."""
    for number in range(NUM_SYNTHETIC):
        (folder / f"{number:03d}.jpg").write_bytes(_synthetic_jpeg(number))


def _synthetic_jpeg(seed: int) -> bytes:
    """Noise with a photograph's 1/f spectrum, at the quality that best matches the file size."""
    height, width = 375, 500
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((4, height, width))) / frequency)
    pixels = noise[:1] + 0.3 * noise[1:]  # mostly grey, as photographs are
    pixels = (128 + 50 * pixels / pixels.std()).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return file.getvalue()

    return min(map(encode, range(80, 97)), key=lambda file: abs(len(file) - SYNTHETIC_BYTES))
