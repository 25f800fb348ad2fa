"""From a decoded picture to the square of pixels that a backbone takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

#: A picture longer than this many times its shorter side is cropped before it
#: is resized: resizing 5000 x 3 pixels to 224 on the shorter side takes 250 MB.
_MAX_ASPECT = 16


@dataclass(frozen=True)
class Geometry:
    """How a backbone resizes and crops; backbones that agree share one decode."""

    height: int = 224
    width: int = 224
    #: "shortest" (shorter side to size, then the middle), "squash" (stretch) or "longest" (pad).
    resize_mode: str = "shortest"
    #: As Pillow names it.
    interpolation: str = "bicubic"
    #: Of the padding, 0 to 255.
    fill_color: int | tuple[int, int, int] = 0
    #: Height and width to resize to, of which the middle is cut out; None for those of the input.
    resized: tuple[int, int] | None = None

    def apply(self, image: Image.Image, *, fast: bool = False) -> np.ndarray:
        """Return the pixels, uint8 (height, width, 3), that the backbone sees of an image (L or RGB).

        Bit for bit those of open_clip's own transform, before its normalisation, for images whose
        sides differ by less than a factor of sixteen. ``fast`` shrinks large ones by averaging first.
        """
        resample = Image.Resampling[self.interpolation.upper()]
        gap = 3.0 if fast else None
        target = (self.width, self.height)
        size = self._resize(image.size)
        if not isinstance(self.fill_color, int):
            image = image.convert("RGB")
        if max(image.size) > _MAX_ASPECT * min(image.size) and self.resize_mode == "shortest":
            box = _centre_box(image.size, target, self.resized or (self.height, self.width))
            image = image.resize(target, resample, box=box, reducing_gap=gap)
        elif size != image.size:
            image = image.resize(size, resample, reducing_gap=gap)
        if image.size != target:
            image = _centre(image, target, self.fill_color)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

    def _resize(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (width, height) to resize to, rounded as open_clip and timm round."""
        width, height = size
        to_height, to_width = self.resized or (self.height, self.width)
        if self.resize_mode == "squash":
            return to_width, to_height
        if self.resize_mode == "shortest" and to_width == to_height:
            if width <= height:
                return to_width, int(to_width * height / width)
            return int(to_height * width / height), to_height
        ratios = height / to_height, width / to_width
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(1, round(width / ratio)), max(1, round(height / ratio))


def _centre_box(size, target, resized):
    """Return the part of a picture, in its own pixels, that a centre crop would keep."""
    width, height = size
    scale = max(resized[1] / width, resized[0] / height)
    w, h = target[0] / scale, target[1] / scale
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _centre(image, target, fill):
    """Crop the middle out, or pad around it, as torchvision's CenterCrop does."""
    left, top = (image.width - target[0]) / 2, (image.height - target[1]) / 2
    if left < 0 or top < 0:
        canvas = Image.new(
            image.mode,
            [max(a, b) for a, b in zip(image.size, target, strict=True)],
            fill if image.mode == "L" or isinstance(fill, tuple) else (fill,) * 3,
        )
        canvas.paste(
            image,
            (
                max(0, int((target[0] - image.width) // 2)),
                max(0, int((target[1] - image.height) // 2)),
            ),
        )
        image = canvas
        left, top = (image.width - target[0]) / 2, (image.height - target[1]) / 2
    left, top = round(left), round(top)
    return image.crop((left, top, left + target[0], top + target[1]))
