"""What backbones cost that a table names."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import numpy as np

from sklearn_clipensemble._runtime import runtime
from sklearn_clipensemble.backbones import PRESETS, BackboneLike, resolve
from sklearn_clipensemble.table._layout import show


def gflops_of(
    backbones: Mapping[str, BackboneLike | None], given: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the GFLOPs per image of backbones by id: those given, else those of the backbone.

    None stands for a backbone that only a table names: it has to be known here.
    """
    costs: dict[str, float] = {}
    for id in given or {}:
        if id not in backbones:
            raise ValueError(
                f"costs names {show(id)}, which is none of the backbones: {', '.join(backbones)}."
            )
    for id, backbone in backbones.items():
        cost = _find(id, backbone) if given is None or id not in given else given[id]
        if isinstance(cost, bool) or not isinstance(cost, Real) or not 0 < cost < np.inf:
            raise ValueError(
                f"costs[{id!r}] is {show(cost)}; expected GFLOPs per image, a positive number."
            )
        costs[id] = float(cost)
    return costs


def _find(id: str, backbone: BackboneLike | None) -> float:
    try:
        backbone = backbone or next(iter(runtime.seen(id)), None)
        if backbone is None:
            if id in PRESETS:
                raise ValueError(f"It bears the name of {len(PRESETS[id])} backbones.")
            [backbone] = resolve(id)
        return backbone.gflops
    except (ValueError, OSError) as error:
        raise ValueError(
            f"What the backbone {id!r} costs is not known here: {error} Pass costs={{{id!r}: GFLOPs per "
            "image, ...}."
        ) from error
