"""Photograph-like images in every kind of file, made on the spot."""

import io

import numpy as np
from PIL import Image


def photograph(height, width, seed=0):
    """Noise with a photograph's 1/f spectrum: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((4, height, width))) / frequency
    noise = np.fft.irfft2(spectrum, (height, width))
    pixels = noise[:1] + 0.3 * noise[1:]  # mostly grey, as photographs are
    pixels = 128 + 50 * pixels / pixels.std()
    return pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def encode(pixels, kind="JPEG", mode="RGB", **options):
    if kind == "JPEG":
        options = {"quality": 92} | options
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def by_pillow(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PHOTOGRAPH = photograph(375, 500)
JPEG = encode(PHOTOGRAPH)
# What is plain to libjpeg-turbo, and what goes through Pillow.
PLAIN = {
    "4:2:0": JPEG,
    "4:4:4": encode(PHOTOGRAPH, subsampling=0),
    "progressive": encode(PHOTOGRAPH, progressive=True),
    "restart markers": encode(PHOTOGRAPH, restart_marker_rows=1),
    "grey": encode(PHOTOGRAPH, mode="L"),
    "upright by EXIF": encode(PHOTOGRAPH, exif=with_orientation(1)),
    "damaged EXIF": encode(PHOTOGRAPH, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
}
OTHER = {
    "CMYK": encode(PHOTOGRAPH, mode="CMYK"),
    "PNG": encode(PHOTOGRAPH, "PNG"),
    "palette PNG": encode(PHOTOGRAPH, "PNG", mode="P"),
    "RGBA PNG": encode(PHOTOGRAPH, "PNG", mode="RGBA"),
    "grey PNG": encode(PHOTOGRAPH, "PNG", mode="L"),
    "bilevel PNG": encode(PHOTOGRAPH, "PNG", mode="1"),
    "GIF": encode(PHOTOGRAPH, "GIF"),
    "BMP": encode(PHOTOGRAPH, "BMP"),
}
