"""The shape of the house: imports point downward, importing is light and leaves the program as it was."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfsqueeze"

FLOORS = [
    {"version"},
    {"core"},
    {"tflite"},
    {"models", "schedules"},
    {"pruning", "quantization", "clustering", "distillation", "architecture", "precision"},
    {"callbacks", "reporting"},
    {"export"},
    {"recipe"},
    {"search"},
    {"quickstart"},
    {"cli"},
    {"__main__", "__init__"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def room_of(parts) -> str:
    return Path(parts[0]).stem if parts else "__init__"


def imports(path: Path):
    """Rooms of the package that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (room_of(name.split(".")[1:]) for name in names if name.split(".")[0] == "tfsqueeze")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    room = room_of(path.relative_to(PACKAGE).parts)
    for other in imports(path):
        assert other == room or FLOOR[other] < FLOOR[room], f"{room} must not import {other}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 300


def test_importing_is_light_and_leaves_the_program_as_it_was():
    program = """
import logging, os, random, sys
import keras, tensorflow as tf
import numpy as np
keras.config.set_dtype_policy("mixed_bfloat16")
before = (os.environ.get("TF_USE_LEGACY_KERAS"), tf.keras.__name__, keras.config.dtype_policy().name,
          random.getstate(), np.random.get_state()[1].tolist(), logging.root.handlers[:], logging.root.level,
          tf.get_logger().level, logging.getLogger("absl").level)
known = set(sys.modules)
import tfsqueeze
after = (os.environ.get("TF_USE_LEGACY_KERAS"), tf.keras.__name__, keras.config.dtype_policy().name,
         random.getstate(), np.random.get_state()[1].tolist(), logging.root.handlers[:], logging.root.level,
         tf.get_logger().level, logging.getLogger("absl").level)
assert before == after
heavy = {"tensorflow_model_optimization", "tf_keras", "matplotlib", "litert_quantizer", "ai_edge_litert",
         "sklearn", "rich", "click", "optuna"} & (set(sys.modules) - known)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)


def test_every_public_name_exists_and_is_documented():
    import tfsqueeze

    for name in tfsqueeze.__all__:
        value = getattr(tfsqueeze, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'prume'"):
        tfsqueeze.prume  # noqa: B018
