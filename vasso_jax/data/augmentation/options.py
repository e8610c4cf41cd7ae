"""What is done to training images: the section `augment` of a config."""

import dataclasses
import math
from collections.abc import Sequence

from vasso_jax.names import check_choice

POLICIES = ("randaugment", "trivialaugment")
MAX_MAGNITUDE = 30
_CUTOUT_PROBABILITY = 0.5
# torchvision's defaults.
_OPERATIONS, _MAGNITUDE = 2, 9


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images, in this order; by default, nothing.

    Attributes:
        crop_padding: black pixels on each side before the random crop to H x W; 0: no crop.
        flip: mirror each image left to right with probability one half.
        policy: `randaugment` or `trivialaugment`, random operations on each image; empty: none.
        operations: of `randaugment`: operations per image.
        magnitude: of `randaugment`: strength of each operation, in 0, 1, ..., 30.
        cutout_size: side of the square hole in pixels, rounded down to an even number; 0: none.
        cutout_probability: share of images that get a hole.
        mixup_alpha: each image is averaged with another one, with weights from Beta(alpha, alpha);
            0: not.
        cutmix_alpha: a box of each image is replaced by that of another one, with an area from
            Beta(alpha, alpha); 0: not. If both alphas are set, each batch takes one of the two with
            probability one half.

    Raises:
        ValueError: a value is out of range, or a field has no effect.
    """

    crop_padding: int = 0
    flip: bool = False
    policy: str = ""
    operations: int = _OPERATIONS
    magnitude: int = _MAGNITUDE
    cutout_size: int = 0
    cutout_probability: float = _CUTOUT_PROBABILITY
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def __post_init__(self) -> None:
        for field in ("crop_padding", "cutout_size"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be >= 0 (0: off), got {getattr(self, field)}")
        for field in ("mixup_alpha", "cutmix_alpha"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(
                    f"{field} must be a finite number >= 0 (0: off), got {getattr(self, field)}"
                )
        self._check_policy()
        self._check_cutout()

    @property
    def mixes(self) -> bool:
        """Whether the images of a batch are mixed with each other."""
        return bool(self.mixup_alpha or self.cutmix_alpha)

    def check_fit(self, image_shape: Sequence[int], batch_size: int) -> None:
        """Raises ValueError if batches of such images cannot be augmented so.

        Args:
            image_shape: [H, W, C] of an image.
            batch_size: over all devices.
        """
        *sides, channels = image_shape
        if self.crop_padding >= min(sides):
            raise ValueError(
                f"augment: crop_padding={self.crop_padding} gives crops without any of the image, "
                f"which has {sides[0]}x{sides[1]} pixels: it must be smaller than that"
            )
        if self.cutout_size > min(sides):
            raise ValueError(
                f"augment: cutout_size={self.cutout_size} exceeds the image of "
                f"{sides[0]}x{sides[1]} pixels"
            )
        if self.policy and channels not in (1, 3):
            raise ValueError(
                f"augment: {self.policy} is for grey and RGB images, but these have {channels} "
                "channels: leave policy out"
            )
        if self.mixes and batch_size == 1:
            raise ValueError(
                "augment: mixup and cutmix have no effect on a batch of one image: raise "
                "batch_size, or leave mixup_alpha and cutmix_alpha out"
            )

    def _check_policy(self) -> None:
        if self.policy:
            check_choice("policy", self.policy, POLICIES)
        if self.operations < 1:
            raise ValueError(f"operations must be at least 1, got {self.operations}")
        if not 0 <= self.magnitude <= MAX_MAGNITUDE:
            raise ValueError(f"magnitude must be in [0, {MAX_MAGNITUDE}], got {self.magnitude}")
        for field, default in (("operations", _OPERATIONS), ("magnitude", _MAGNITUDE)):
            if self.policy != "randaugment" and getattr(self, field) != default:
                raise ValueError(
                    f"{field}={getattr(self, field)} has no effect without policy=randaugment: "
                    "set that, or leave it out"
                )

    def _check_cutout(self) -> None:
        if not 0 <= self.cutout_probability <= 1:
            raise ValueError(f"cutout_probability must be in [0, 1], got {self.cutout_probability}")
        if self.cutout_size == 1:
            raise ValueError("cutout_size=1 makes no hole: it must be at least 2 (0: off)")
        if self.cutout_size and not self.cutout_probability:
            raise ValueError(
                f"cutout_size={self.cutout_size} has no effect while cutout_probability is 0: "
                "raise it, or set cutout_size=0"
            )
        if not self.cutout_size and self.cutout_probability != _CUTOUT_PROBABILITY:
            raise ValueError(
                f"cutout_probability={self.cutout_probability} has no effect while cutout_size is "
                "0: set cutout_size, or leave it out"
            )
