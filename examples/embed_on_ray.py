"""Embed images on a Ray cluster of two nodes, lose one of them on the way, and miss no row.

Needs the extra ``ray``. The two nodes are processes of this machine, with two CPUs each. Without a file it
takes scikit-learn's handwritten digits; a parquet file has a column ``image`` of encoded pictures, and
whatever others::

    python examples/embed_on_ray.py
    python examples/embed_on_ray.py IMAGES.parquet --backbones openai-small

While it runs, Ray listens on the machine's own address. Where that is not wanted, run it in a network of
its own: ``unshare --map-root-user --net sh -c 'ip link set lo up; python examples/embed_on_ray.py'``.
"""

import argparse
import io
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import ray
import ray.data
from PIL import Image
from ray.cluster_utils import Cluster
from sklearn.datasets import load_digits

from sklearn_clipensemble.distributed import embed, read_embeddings

NODE = {"num_cpus": 2, "object_store_memory": 100 * 2**20}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="?", help="a parquet file with a column 'image'")
    parser.add_argument("--backbones", default="tiny", help="a preset or an open_clip name")
    parser.add_argument("--output", help="the folder to write to; none keeps nothing")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        images = args.images or digits(Path(scratch, "digits.parquet"))
        output = Path(args.output or Path(scratch, "embeddings"))

        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        ray.init(cluster.address, logging_level="error", log_to_driver=False)
        second = cluster.add_node(**NODE)  # not before, or this process may be connected to it
        cluster.wait_for_nodes()
        try:
            data = ray.data.read_parquet(str(images))
            print(f"a cluster of {len(ray.nodes())} nodes")
            accident = threading.Thread(target=lose, args=(cluster, second, output), daemon=True)
            accident.start()
            start = time.time()
            done = embed(data, output, backbones=args.backbones, rows_per_part=256)
            print(
                f"{done.n_new} rows embedded in {time.time() - start:.0f} s, start of workers included"
            )
            print(f"a node was lost: {not accident.is_alive()}")
            again = embed(data, output, backbones=args.backbones, rows_per_part=256)
            print(f"a second call embeds {again.n_new}")
        finally:
            ray.shutdown()
            cluster.shutdown()

        keys = pd.read_parquet(output, columns=["row_key"])["row_key"]
        print(f"{len(keys)} rows, {keys.nunique()} different ones")
        table = read_embeddings(output)
        print(
            f"a table of {table.shape[0]} x {table.shape[1]}, indexed by {list(table.index.names)}"
        )


def lose(cluster, node, output):
    """Kill a node when two parts are written."""
    while len(list(output.glob("part-*"))) < 2:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


def digits(path):
    """Write scikit-learn's digits to a parquet file."""
    data, rows = load_digits(), []
    for index, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray((image * 15).astype("uint8")).save(buffer, "PNG")
        rows.append({"id": index, "image": buffer.getvalue(), "label": str(label)})
    pd.DataFrame(rows).to_parquet(path, row_group_size=300)
    return path


if __name__ == "__main__":
    main()
