"""The picture of a run shows what was measured of each step."""

import pytest

from tfsqueeze.recipe.result import RecipeResult, StepResult


def test_steps_are_drawn_with_their_scores_and_bytes(tmp_path):
    steps = [
        StepResult(0, "original", "original", parameters=1000, macs=5000, metrics={"accuracy": 0.9}),
        StepResult(
            1, "prune_channels", "prune_channels", parameters=500, macs=2500, metrics={"accuracy": 0.8}
        ),
        StepResult(2, "export_tflite", "export_tflite", parameters=490, macs=None, bytes=1234),
        StepResult(3, "compare", "compare"),
    ]
    (axes,) = RecipeResult(None, steps).plot(tmp_path / "steps.png").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "original",
        "1 prune_channels",
        "2 export_tflite",
    ]
    assert [text.get_text() for text in axes.texts] == ["accuracy 0.9", "accuracy 0.8", "1,234 bytes"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([100, 50, 49, 100, 50, 0])
    assert (tmp_path / "steps.png").stat().st_size > 1000


def test_tables_and_pictures_are_written_to_the_output(tmp_path):
    first = StepResult(0, "original", "original", parameters=1000, macs=5000)
    written = RecipeResult(None, [first], output=tmp_path).save()
    assert [path.name for path in written] == ["report.md", "report.json", "steps.png"]
    assert all(path.stat().st_size > 0 for path in written)
    with pytest.raises(ValueError, match="run without `output`"):
        RecipeResult(None, [first]).save()


def test_a_run_that_measured_nothing_has_no_picture():
    with pytest.raises(ValueError, match="measure=False"):
        RecipeResult(None, [StepResult(1, "prune", "prune")]).plot()
