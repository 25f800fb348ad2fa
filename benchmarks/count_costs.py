"""What is known of every backbone that open_clip publishes: makes ``backbones/published.csv`` again.

::

    python -m benchmarks.count_costs --results openclip_results.csv

``--results`` is ``docs/openclip_results.csv`` of the open_clip project. To be run where open_clip
publishes new models; nothing is downloaded.
"""

import argparse
import warnings
from pathlib import Path

import pandas as pd
import torch

from sklearn_clipensemble import backbones
from sklearn_clipensemble.backbones import _published
from sklearn_clipensemble.backbones._catalogue import describe
from sklearn_clipensemble.backbones._open_clip import open_clip, quiet

HEADER = """\
# What is known of the backbones that open_clip names, and of the bundled ones. Made by
#   python -m benchmarks.count_costs --results openclip_results.csv
# family, width, image_size, gflops (of one image; a multiply-add is two operations) and parameters
# (millions; the image tower's): counted, by open_clip {open_clip} on torch's device "meta". For the 84
# models that open_clip's own docs/model_profile.csv has, gflops and parameters are the same to its digits.
# imagenet: zero-shot accuracy on ImageNet-1k, from docs/openclip_results.csv of
# https://github.com/mlfoundations/open_clip (MIT), as of November 2023; empty for what came later.
# download_mb: parameters of the whole model, text tower too, times 4 bytes; 2 bytes for EVA, which is
# published in half precision. {n_listed} of them were compared with the sizes that the hub lists for the
# files (they stand in the script): none differs by more than 0.6 %.
"""

#: MB, or GB with a point, as https://huggingface.co lists the files: open_clip_model.safetensors, or
#: open_clip_pytorch_model.bin where there is none.
LISTED = {
    "RN50/openai": 408,
    "RN50x4/openai": 714,
    "RN50x16/openai": 1.16,
    "RN50x64/openai": 2.49,
    "ViT-B-32/openai": 605,
    "ViT-L-14/openai": 1.71,
    "ViT-B-16/metaclip_400m": 599,
    "ViT-B-16/metaclip_fullcc": 599,
    "ViT-B-16/dfn2b": 599,
    "ViT-L-14/dfn2b": 1.71,
    "ViT-L-14/dfn2b_s39b": 1.71,
    "ViT-g-14/laion2b_s12b_b42k": 5.47,
    "ViT-bigG-14/laion2b_s39b_b160k": 10.2,
    "ViT-bigG-14-CLIPA/datacomp1b": 10.1,
    "ViT-bigG-14-CLIPA-336/datacomp1b": 10.1,
    "EVA01-g-14/laion400m_s11b_b41k": 2.27,
    "EVA01-g-14-plus/merged2b_s11b_b114k": 2.73,
    "EVA02-B-16/merged2b_s8b_b131k": 299,
    "EVA02-L-14/merged2b_s4b_b131k": 856,
    "EVA02-L-14-336/merged2b_s6b_b61k": 856,
    "EVA02-E-14/laion2b_s4b_b115k": 9.41,
    "EVA02-E-14-plus/laion2b_s9b_b144k": 10.1,
    "ViT-B-16-SigLIP/webli": 813,
    "ViT-B-16-SigLIP-384/webli": 814,
    "ViT-B-16-SigLIP-512/webli": 815,
    "ViT-B-16-SigLIP2-384/webli": 1.5,
    "MobileCLIP-S1/datacompdr": 341,
    "MobileCLIP-S2/datacompdr": 398,
    "ViTamin-B/datacomp1b": 604,
    "ViTamin-L-256/datacomp1b": 1.83,
    "ViTamin-L-336/datacomp1b": 1.83,
    "ViTamin-L-384/datacomp1b": 1.83,
    "ViTamin-L2-256/datacomp1b": 2.75,
    "ViTamin-L2-336/datacomp1b": 2.75,
    "ViTamin-XL-336/datacomp1b": 3.7,
    "ViTamin-XL-384/datacomp1b": 3.7,
    "roberta-ViT-B-32/laion2b_s12b_b32k": 851,
    "nllb-clip-large-siglip/v1": 4.78,
    "nllb-clip-large-siglip/mrl": 4.78,
    "nllb-clip-base-siglip/mrl": 2.03,
}


def numbers(model, results):
    """Count the millions of numbers of a whole model."""
    try:
        with quiet(), torch.device("meta"):
            state = open_clip().create_model(model, device="meta").state_dict()
        return sum(v.numel() for v in state.values()) / 1e6
    except RuntimeError:  # a text tower of transformers
        found = results["params (M)"].get(model)
        return float("nan") if found is None else pd.Series(found).iloc[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results = pd.read_csv(args.results)
    by_name, by_id = results.set_index("name"), results.set_index(["name", "pretrained"])
    rows, whole, counted = {}, {}, {}
    ids = [*backbones.PRESETS["tiny"], *map("/".join, open_clip().list_pretrained())]
    for id in ids:
        (backbone,) = backbones.resolve(id)
        model, _, tag = id.rpartition("/")
        if id.startswith("tiny/"):
            rows[id] = {**describe(backbone), "download_mb": 0}
            continue
        if model not in counted:
            counted[model] = describe(backbone)
            whole[model] = numbers(model, by_name)
        same = [model]
        if backbone.settings()["quick_gelu"]:  # the same weights under two names
            plain = model.removesuffix("-quickgelu")
            same = [f"{plain}-quickgelu", plain]
        found = (by_id["ImageNet 1k"].get((name, tag)) for name in same)
        size = whole[model] * (2 if model.startswith("EVA") else 4)
        if id in LISTED:
            listed = LISTED[id] * (1000 if LISTED[id] < 100 else 1)
            # Three digits are listed, and torch's own format adds some kilobytes.
            if not abs(size / listed - 1) < 0.006:
                print(f"{id}: {listed} MB are listed, {size:.0f} are counted")
                size = listed
        known = next((f for f in found if f is not None), float("nan"))
        rows[id] = {**counted[model], "download_mb": size, "imagenet": known}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")
    table["gflops"] = table["gflops"].map("{:.4g}".format)
    table["parameters"] = table["parameters"].map("{:.4g}".format)
    table["download_mb"] = table["download_mb"].round().astype("Int64")
    known = ["family", "width", "image_size", "gflops", "parameters", "download_mb", "imagenet"]
    path = Path(_published.__file__).with_name("published.csv")
    header = HEADER.format(open_clip=open_clip().__version__, n_listed=len(LISTED))
    path.write_text(header + table[known].to_csv())
    print(f"{path}: {len(table)} backbones, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
