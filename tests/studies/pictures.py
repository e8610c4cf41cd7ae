"""Comparing pictures."""

import numpy as np
from PIL import Image


def assert_alike(ours, kept):
    """The same picture but for what fonts and versions of matplotlib change."""
    ours, kept = (np.asarray(Image.open(path).convert("L"), np.float32) for path in (ours, kept))
    assert ours.shape == kept.shape
    assert np.abs(ours - kept).mean() < 2
