"""The end of a search: the winner, chosen and written beside its recipe and reports."""

from typing import Any

from tfsqueeze.core.data import Examples
from tfsqueeze.core.files import atomic_write
from tfsqueeze.reporting.compare import compare
from tfsqueeze.search.squeezing.attempts import Attempt
from tfsqueeze.search.squeezing.paired_test import Judge
from tfsqueeze.search.squeezing.result import Squeezed
from tfsqueeze.search.squeezing.stages import Search


def best_of(attempts: list[Attempt]) -> Attempt:
    """The cheapest that is good enough; if there is none, the one that misses by least."""
    good = [one for one in attempts if one.verdict.is_within]
    if good:
        return min(good, key=lambda one: (one.cost, one.verdict.drop))
    return min(attempts, key=lambda one: (one.verdict.upper, one.cost))


def write_winner(
    search: Search, attempts: list[Attempt], metric: Any, held_out: Examples | None, confidence: float
) -> Squeezed:
    """Writes the winner and the reports, and deletes what only the search needed.

    Args:
        search: a search that is over.
        attempts: all of its attempts.
        metric: what is scored.
        held_out: examples that nothing was chosen by, or None.
        confidence: of the bound on the drop.
    """
    best = best_of(attempts)
    workshop = search.workshop
    made = workshop.make(best.setting, best.candidate, best.trained)
    recipe, model, output = workshop.recipe(best.setting, best.trained), workshop.model, workshop.output
    for name, write in {
        "model.tflite": lambda path: path.write_bytes(made.path.read_bytes()),
        "model.keras": made.model.save,
        "original.keras": model.save,
    }.items():
        with atomic_write(output / name) as temporary:
            write(temporary)
    recipe.model = "original.keras"
    recipe.to_file(output / "recipe.yaml")
    files = {"original": output / "original.tflite", "squeezed": output / "model.tflite"}
    comparison = compare({"Keras": model, **files}, data=workshop.data.validation, metric=metric)
    held = None
    if held_out is not None:
        judge = Judge(files["original"], model, held_out, metric, search.max_drop, confidence)
        held = judge.verdict(files["squeezed"])
    found = Squeezed(
        model=made.model,
        path=files["squeezed"],
        recipe=recipe,
        best=best,
        attempts=attempts,
        report=comparison,
        max_drop=search.max_drop,
        metric=search.judge.metric,
        baseline=search.judge.baseline,
        held_out=held,
        skipped=workshop.repertoire.skipped,
        output=output,
    )
    found.to_json(output / "report.json")
    found.to_markdown(output / "report.md")
    workshop.delete_but({one.folder(output) for one in (best, *found.front)})
    return found
