"""tfsqueeze: makes trained Keras models small and fast, and puts them on phones, boards and CPUs.

    import tfsqueeze as tfs

Importing it costs little more than importing Keras: what is heavy is loaded when first used.
"""

import importlib

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"tfsqueeze works with Keras on TensorFlow. Received: Keras on {keras.backend.backend()!r}. Set "
        "KERAS_BACKEND=tensorflow before Keras is first imported."
    )

from tfsqueeze import callbacks, distillation, schedules
from tfsqueeze.clustering.callback import ClusteringCallback
from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.core.explain import explain
from tfsqueeze.core.select import Select
from tfsqueeze.distillation.distiller import Distiller
from tfsqueeze.models import legacy_layers  # noqa: F401  (registers the layers that ported models use)
from tfsqueeze.pruning.callback import PruningCallback
from tfsqueeze.pruning.channels.regularization import GroupRegularization
from tfsqueeze.pruning.one_shot import prune
from tfsqueeze.pruning.patterns import Blocks
from tfsqueeze.pruning.regrowth import Regrowth
from tfsqueeze.quantization.aware import quantize_aware
from tfsqueeze.quantization.callback import QuantizationCallback
from tfsqueeze.quantization.config import QuantizationConfig
from tfsqueeze.quantization.strip import strip_quantization
from tfsqueeze.version import __version__

_ON_FIRST_USE = {
    "Choice": "tfsqueeze.search.studies.space",
    "Range": "tfsqueeze.search.studies.space",
    "Recipe": "tfsqueeze.recipe.recipe",
    "backbones": "tfsqueeze.search.backbones",
    "calibrate": "tfsqueeze.quantization.calibrate",
    "calibrate_within": "tfsqueeze.search.calibrate_within",
    "quantization_errors": "tfsqueeze.search.quantization_errors",
    "check_sparse_inference": "tfsqueeze.export.sparse_inference",
    "cluster": "tfsqueeze.clustering.one_shot",
    "compare": "tfsqueeze.reporting.compare",
    "downsample_output": "tfsqueeze.architecture.output_size",
    "export_tflite": "tfsqueeze.export.tflite",
    "export_variants": "tfsqueeze.export.tflite",
    "factorize": "tfsqueeze.architecture.factorize",
    "find_overflows": "tfsqueeze.precision.overflow",
    "find_ticket": "tfsqueeze.pruning.lottery",
    "huffman_size": "tfsqueeze.clustering.size",
    "largest_batch": "tfsqueeze.precision.batch_size",
    "load_model": "tfsqueeze.models.load",
    "multi_worker_fit": "tfsqueeze.core.multi_worker",
    "pack": "tfsqueeze.clustering.pack",
    "plot_channels": "tfsqueeze.reporting.channel_plot",
    "plot_masks": "tfsqueeze.reporting.weight_plots",
    "plot_weights": "tfsqueeze.reporting.weight_plots",
    "product_quantize": "tfsqueeze.clustering.product",
    "prune_channels": "tfsqueeze.pruning.channels.one_shot",
    "prune_channels_gradually": "tfsqueeze.pruning.channels.gradual",
    "prune_depth": "tfsqueeze.pruning.depth",
    "report": "tfsqueeze.reporting.report",
    "scale_width": "tfsqueeze.distillation.width",
    "search_architecture": "tfsqueeze.search.architectures.search_architecture",
    "sensitivity": "tfsqueeze.search.sensitivity.sensitivity",
    "set_mixed_precision": "tfsqueeze.precision.policy",
    "squeeze": "tfsqueeze.search.squeezing.squeeze",
    "swap_backbone": "tfsqueeze.architecture.backbone",
    "sweep_input_sizes": "tfsqueeze.search.input_sizes",
    "Tuning": "tfsqueeze.search.tuning.result",
    "tune": "tfsqueeze.search.tuning.tune",
    "to_separable": "tfsqueeze.architecture.separable",
    "unpack": "tfsqueeze.clustering.pack",
    "with_input_size": "tfsqueeze.architecture.input_size",
    "with_precision": "tfsqueeze.precision.conversion",
}

__all__ = [
    "Blocks",
    "Choice",
    "ClusteringCallback",
    "Distiller",
    "GroupRegularization",
    "PruningCallback",
    "QuantizationCallback",
    "QuantizationConfig",
    "Range",
    "Recipe",
    "Regrowth",
    "Select",
    "Tuning",
    "UnsupportedModelError",
    "__version__",
    "backbones",
    "calibrate",
    "calibrate_within",
    "callbacks",
    "check_sparse_inference",
    "cluster",
    "compare",
    "distillation",
    "downsample_output",
    "explain",
    "export_tflite",
    "export_variants",
    "factorize",
    "find_overflows",
    "find_ticket",
    "huffman_size",
    "largest_batch",
    "load_model",
    "multi_worker_fit",
    "pack",
    "plot_channels",
    "plot_masks",
    "plot_weights",
    "product_quantize",
    "prune",
    "prune_channels",
    "prune_channels_gradually",
    "prune_depth",
    "quantization_errors",
    "quantize_aware",
    "report",
    "scale_width",
    "schedules",
    "search_architecture",
    "sensitivity",
    "set_mixed_precision",
    "squeeze",
    "strip_quantization",
    "swap_backbone",
    "sweep_input_sizes",
    "to_separable",
    "tune",
    "unpack",
    "with_input_size",
    "with_precision",
]


def __getattr__(name: str):
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'tfsqueeze' has no attribute {name!r}")
    value = getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
