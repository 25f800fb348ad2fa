"""Five small CLIP backbones that come with the package; see MODEL_CARD.md."""
