"""More images than one machine embeds: batches for any engine, and a run on Ray."""

from sklearn_clipensemble.distributed._batches import EmbedBatch
from sklearn_clipensemble.distributed._reading import read_embeddings
from sklearn_clipensemble.distributed._run import embed

__all__ = ["EmbedBatch", "embed", "read_embeddings"]
