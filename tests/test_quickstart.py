"""The quickstart is the README's first command: it must work, and mean what it says."""

import json

import pytest

from tfsqueeze import quickstart


@pytest.mark.slow
def test_the_main_job_on_real_digits(tmp_path, capsys):
    comparison = quickstart.run(tmp_path / "demo")
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    files = {"dense.tflite", "float32.tflite", "float16.tflite", "int8.tflite"}
    assert files | {"dense.keras", "pruned.keras", "report.json", "report.md", "accuracy-size.png"} <= made
    dense, int8 = comparison["dense float32"], comparison["pruned int8"]
    assert dense.metrics["accuracy"] > 0.95
    assert int8.metrics["accuracy"] > dense.metrics["accuracy"] - 0.02
    assert comparison.ratio("pruned int8", "file_bytes") > 3
    assert comparison.ratio("pruned int8", "gzip_bytes") > 8
    assert comparison.ratio("pruned float32", "nonzero") > 4.5
    assert json.loads((tmp_path / "demo" / "report.json").read_text())
    assert "tfsqueeze convert" in capsys.readouterr().out


def test_missing_scikit_learn_is_explained(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'tfsqueeze\[quickstart\]'"):
        quickstart.load_digits()


def test_digits_are_split_without_overlap():
    (train, train_labels), (test, test_labels) = quickstart.load_digits(3)
    assert len(train) == len(train_labels) == 1437 and len(test) == len(test_labels) == 360
    assert train.shape[1:] == (8, 8, 1) and train.min() >= 0 and train.max() == 1
