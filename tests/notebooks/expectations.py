"""What each notebook's results must be: `check_<notebook>(its summary, the folder it ran in or None)`.

The bounds leave room for other machines and versions; what is exact by construction is exact here.
"""

import pytest

POINT = 0.01


def files_are_there(folder, *names):
    for name in names if folder is not None else ():
        assert (folder / name).stat().st_size > 0, name


def check_start_here(found, folder):
    assert found["sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert found["dense accuracy"] > 0.95
    assert found["int8 accuracy"] > found["dense accuracy"] - 2 * POINT
    assert found["interpreter accuracy"] == found["int8 accuracy"]
    assert found["float operators left"] == 0
    assert found["times smaller"] > 3.4 and found["times smaller, zipped"] > 8
    files_are_there(
        folder, "dense.tflite", "files/float32.tflite", "files/float16.tflite", "files/int8.tflite"
    )


def check_coming_from_tfmot(found, folder):
    assert found["baseline"] > 0.95
    assert found["pruned sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert found["pruned accuracy"] > found["baseline"] - 3 * POINT
    assert found["most non-zeros of four"] == 2
    assert found["distinct weights"] <= 16
    assert found["float operators left"] == 0
    assert found["all three, accuracy"] > found["baseline"] - 4 * POINT
    assert found["all three, zeros"] > 0.78
    assert found["times smaller, zipped"] > 9
    assert found["ported layers"] == 3
    files_are_there(folder, "pcqat.tflite", "quantized.tflite", "wrapped.h5")


def check_quantization(found, folder):
    assert found["int8 accuracy"] > found["float accuracy"] - POINT
    assert found["float operators left"] == 0
    assert found["uneven dB"] < 20 < 35 < found["repaired dB"]
    assert found["repaired int8 accuracy"] > max(
        found["uneven int8 accuracy"], found["float accuracy"] - POINT
    )
    assert found["int4 accuracy"] > found["float accuracy"] - 2 * POINT
    assert found["ternary accuracy"] > found["float accuracy"] - 3 * POINT
    assert found["ternary times smaller"] > 8
    files_are_there(folder, "files/int16x8.tflite", "repaired.tflite", "int4.tflite", "ternary.tflite")


def check_pruning(found, folder):
    assert found["zeros"] == pytest.approx(0.95, abs=1e-4)
    assert found["fisher at once"] > found["random at once"] + 0.2
    assert found["global"] > found["layer"] + 0.2
    assert found["budget"] > found["layer"] + 0.5
    assert found["best at 95 %"] > found["baseline"] - 3 * POINT
    assert found["best at 95 %"] > found["plain at 95 %"]
    assert found["90 % times smaller"] > 5
    files_are_there(folder, "50%.tflite", "95%.tflite")


def check_removing_channels(found, folder):
    assert found["MACs kept"] == pytest.approx(0.5, abs=0.03) and found["MACs kept"] <= 0.5
    assert found["quarter MACs"] == pytest.approx(0.25, abs=0.03)
    assert found["half, at once"] > found["half, at once, without data"]
    assert found["half, at once"] > found["baseline"] - 10 * POINT
    assert found["quarter, trained"] > found["baseline"] - 4 * POINT
    assert found["quarter int8 accuracy"] > found["quarter, trained"] - 2 * POINT
    assert found["quarter int8 times smaller"] > 6
    files_are_there(folder, "whole.tflite", "half.tflite", "quarter-int8.tflite")


def check_convert_any_model(found, folder):
    assert found["files loaded"] == 4 and found["greatest difference"] < 1e-5
    assert found["float accuracy"] > 0.95
    for name in ("phone accuracy", "board accuracy"):
        assert found[name] > found["float accuracy"] - 2 * POINT
    assert found["float operators left"] == 0 and found["board input"] == "int8"
    assert found["times smaller"] > 2.5
    assert 1000 < found["arena bytes"] < 16 * 1024
    files_are_there(folder, "old_saved_model/saved_model.pb", "phone.tflite", "board.tflite", "model.cc")


def check_distillation(found, folder):
    assert found["teacher"] > 0.95
    assert found["from the teacher"] > found["from few labels"] + 3 * POINT
    assert found["cut and taught"] > max(found["cut at once"], found["teacher"] - 5 * POINT)
    assert found["4-bit file"] > found["cut and taught"] - 5 * POINT
    assert found["times smaller"] > 4
    files_are_there(folder, "labels", "student.tflite")


def check_cheaper_architectures(found, folder):
    assert found["low rank MACs"] <= 0.36
    assert found["low rank, with data"] >= found["low rank, without"]
    assert found["low rank, with data"] > found["baseline"] - 5 * POINT
    assert found["separable MACs"] < 0.3
    assert found["separable trained"] > found["baseline"] - 5 * POINT
    assert found["mixed dtype"] == "bfloat16" and found["same weights"] is True
    assert found["overflowing layers"][0] == 0 < found["overflowing layers"][1]
    assert found["mixed accuracy"] > found["baseline"] - 3 * POINT
    files_are_there(folder, "original.tflite", "separable-int8.tflite")
