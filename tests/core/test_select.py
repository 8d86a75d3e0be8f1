"""Selecting layers by everything `select` takes."""

import re

import keras
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.select import select_layers, walk


def unsupported(layer):
    return None if kernels(layer) else "no kernel"


def chosen(model, select=None, **kwargs):
    return [named.path for named in select_layers(model, select, unsupported, **kwargs).chosen]


def test_walk_gives_paths_through_nested_and_composite_layers():
    paths = [named.path for named in walk(ZOO["nested"]())]
    assert {"backbone", "backbone/inner_conv", "neck/neck_conv", "head"} <= set(paths)
    assert "attention/query" in [named.path for named in walk(ZOO["attention"]())]


def test_shared_layers_are_walked_once():
    assert [named.path for named in walk(ZOO["shared"]())].count("tower") == 1


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (None, ["conv1", "conv2", "head"]),
        (layers.Conv2D, ["conv1", "conv2"]),
        ("head", ["head"]),
        ("conv.*", ["conv1", "conv2"]),
        (re.compile("conv[2-9]"), ["conv2"]),
        (lambda layer: getattr(layer, "filters", 0) > 6, ["conv2"]),
        (["conv1", layers.Dense], ["conv1", "head"]),
        (tfs.Select(names=["conv1"]), ["conv1"]),
        (tfs.Select(patterns=["c.*"], skip="conv1"), ["conv2"]),
        (tfs.Select(types=[layers.Conv2D, layers.Dense], skip=layers.Dense), ["conv1", "conv2"]),
        (tfs.Select(skip="head"), ["conv1", "conv2"]),
    ],
)
def test_each_kind_of_selection(select, expected):
    assert chosen(ZOO["sequential"](), select) == expected


def test_a_layer_object_and_a_container_can_be_selected():
    model = ZOO["nested"]()
    assert chosen(model, model.get_layer("head")) == ["head"]
    assert chosen(model, "backbone") == ["backbone/inner_conv"]
    assert chosen(model, "neck/.*") == ["neck/neck_conv"]
    assert len(chosen(ZOO["attention"](), "attention")) == 4


def test_what_is_skipped_is_listed_with_the_reason():
    selection = select_layers(ZOO["sequential"](), "conv.*", unsupported)
    assert selection.skipped == {"bn1": "not selected", "head": "not selected"}
    assert select_layers(ZOO["sequential"](), None, unsupported).skipped == {"bn1": "no kernel"}


def test_left_alone_by_default_but_not_when_selected():
    def shy(layer):
        return "shy" if layer.name == "conv2" else None

    model = ZOO["sequential"]()
    assert chosen(model, by_default=shy) == ["conv1", "head"]
    assert chosen(model, "conv2", by_default=shy) == ["conv2"]


def test_matching_nothing_lists_close_names():
    with pytest.raises(ValueError, match=r"matches no layer: 'conv3'.*Did you mean 'conv"):
        chosen(ZOO["sequential"](), "conv3")
    with pytest.raises(ValueError, match="matches no layer"):
        chosen(ZOO["sequential"](), ["conv1", "nowhere"])


def test_a_named_layer_that_cannot_be_worked_on_raises():
    with pytest.raises(ValueError, match=r"'bn1' \(BatchNormalization\) was selected by name.*no kernel"):
        chosen(ZOO["sequential"](), ["bn1", "conv1"])
    with pytest.raises(ValueError, match="No layer of model 'sequential' is left"):
        chosen(ZOO["sequential"](), layers.BatchNormalization)


def test_unknown_kind_of_selection():
    with pytest.raises(TypeError, match="takes a layer class, a name"):
        chosen(ZOO["sequential"](), 3)


def test_a_name_that_is_no_valid_pattern_still_matches_exactly():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="out+")])
    assert chosen(model, "out+") == ["out+"]
