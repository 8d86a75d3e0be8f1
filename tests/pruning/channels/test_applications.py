"""Half of the channels of published architectures, at their smallest inputs."""

import keras
import numpy as np
import pytest

import tfsqueeze as tfs
from tests.benchmarks.bench_channels import build, check_reloads
from tfsqueeze.pruning.channels.graph import find_groups

SLOW = (
    *("ConvNeXtTiny", "DenseNet121", "DenseNet201", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3"),
    *("InceptionResNetV2", "MobileNet", "MobileNetV3Large", "MobileNetV3Small", "NASNetMobile"),
    *("ResNet50", "ResNet50V2", "VGG16", "Xception"),
)
EXPORTED = ("ConvNeXtTiny", "MobileNetV3Small")


def check_half(name):
    model = build(name)
    whole = find_groups(model)
    small = tfs.prune_channels(model, ratio=0.5)
    found = find_groups(small)
    assert found.macs() <= 0.35 * whole.macs()
    assert found.size == whole.size - np.ceil(whole.size / 2)
    check_reloads(small)
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    # Nothing but what leaves the model, or enters it, is pinned.
    assert len(whole.pinned) <= 2, whole.pinned
    return small


@pytest.mark.slow
def test_a_depthwise_net():
    check_half("MobileNetV2")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_architectures(name, tmp_path):
    small = check_half(name)
    if name in EXPORTED:
        tfs.export_tflite(small, tmp_path / "small.tflite")  # which compares outputs


@pytest.mark.slow
def test_a_nested_backbone():
    image = keras.Input((32, 32, 3))
    backbone = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(image))
    model = keras.Model(image, keras.layers.Dense(4)(x))
    small = tfs.prune_channels(model, macs=0.5)
    assert find_groups(small).macs() <= 0.5 * find_groups(model).macs()
    assert small(np.zeros((1, 32, 32, 3))).shape == (1, 4)
