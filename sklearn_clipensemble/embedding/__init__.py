"""Images -> embeddings -> zero-shot logits."""

from sklearn_clipensemble.embedding._embedder import CLIPEmbedder
from sklearn_clipensemble.embedding._zero_shot import ZeroShotLogits

__all__ = ["CLIPEmbedder", "ZeroShotLogits"]
