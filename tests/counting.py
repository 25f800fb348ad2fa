"""An embedder whose work can be counted in any process."""

import os

from sklearn_clipensemble import CLIPEmbedder


class CountingEmbedder(CLIPEmbedder):
    """Writes down, in a file beside the cache, how many images the models of any process embed."""

    def transform(self, X):
        from sklearn_clipensemble.backbones._model import Model

        embed = Model.embed_images
        log = os.path.join(os.path.dirname(self.cache), "counts")

        def counting(model, pixels, device, precision):
            with open(log, "a") as file:
                file.write(f"{len(pixels)}\n")
            return embed(model, pixels, device, precision)

        Model.embed_images = counting
        try:
            return super().transform(X)
        finally:
            Model.embed_images = embed
