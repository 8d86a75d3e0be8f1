"""The examples of the docstrings run, and print what they say they print."""

import ast
import doctest
import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.blocks import names_used
from tests.docs.namespace import namespace

PACKAGE = Path(__file__).parents[2] / "tfsqueeze"
NUMBER = re.compile(r"\d+\.\d*(?:e[-+]?\d+)?")

NOT_RUN = {
    "architecture.backbone.swap_backbone": "it downloads weights; resolution.md runs it without",
    "clustering.product.product_quantize": "the kernels of the tiny model have too few sub-vectors",
    "core.data_files.read_examples": "it reads a file of the user's",
    "models.load.load_model": "it reads files of the user's",
    "pruning.depth.prune_depth": "the tiny model has one block only",
    "pruning.lottery.find_ticket": "it rewinds to step 200",
    "quickstart.run": "it has a test of its own",
    "recipe.recipe.Recipe": "recipes.md runs the same",
    "recipe.recipe.Recipe.run": "it reads a file of the user's",
    "search.architectures.search_architecture.search_architecture": "architecture_search.md runs it, shorter",
    "search.backbones.backbones": "it times large networks",
    "search.input_sizes.sweep_input_sizes": "resolution.md runs it on small images",
    "search.sensitivity.result.Sensitivity.budget": "the example of sensitivity() runs it",
    "search.squeezing.front.next_on_front": "it shows a step in the middle of a search",
    "search.squeezing.result.Squeezed.file_of": "it goes on after a search",
    "search.squeezing.squeeze.squeeze": "squeeze.md runs it, shorter",
    "search.tuning.tune.tune": "tuning.md runs it, shorter",
    "tflite.runner.Runner": "it names an output as another model does",
}
SETUP = {
    "clustering.pack.unpack": "tfs.pack(model, 'model.tfsq')",
    "core.batch_statistics.reestimate_batch_statistics": "changed = model",
    "core.select.Select": "model = mobile_network()",
    "export.sparse_inference.check_sparse_inference": "model = mobile_network()",
    "precision.overflow.find_overflows": "model = overflowing_network()",
    "pruning.channels.cut.cut": "from tfsqueeze.pruning.channels.graph import find_groups",
    "quantization.callback.QuantizationCallback": "qat = tfs.quantize_aware(model)",
    "quantization.strip.strip_quantization": "qat = tfs.quantize_aware(model)",
    "reporting.tflite_macs.operator_macs": "from tfsqueeze.reporting.tflite_shapes import for_one_example",
    "search.studies.coordinates.from_place": "from optuna.distributions import FloatDistribution",
    "tflite.sparse_storage.store_sparse": "import shutil; from pathlib import Path; "
    "shutil.copy('model.tflite', 'pruned.tflite')",
}


@dataclass(frozen=True)
class Documented:
    """A docstring with examples and the dotted name of what it belongs to."""

    name: str
    module: str
    docstring: str


def documented():
    """Everything in the package with examples in its docstring, found without importing it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield from _in(ast.parse(path.read_text()), module, module)


def _in(tree, name, module):
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            docstring = ast.get_docstring(node) or ""
            if ">>>" in docstring:
                yield Documented(f"{name}.{node.name}", module, docstring)
            if isinstance(node, ast.ClassDef):
                yield from _in(node, f"{name}.{node.name}", module)


class Checker(doctest.OutputChecker):
    """Compares what is shown; examples that show nothing may print, and numbers agree to six digits."""

    def check_output(self, want, got, optionflags):
        return not want or self._plain(want) == self._plain(got)

    def _plain(self, text):
        return "".join(NUMBER.sub(lambda number: f"{float(number[0]):.6g}", text).split())


CASES = {found.name: found for found in documented()}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*CASES} - {*NOT_RUN}))
def test_examples_run(name, tmp_path, monkeypatch, quiet, tflite_file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.tflite").write_bytes(tflite_file)
    examples = doctest.DocTestParser().get_examples(CASES[name].docstring)
    setup = SETUP.get(name, "")
    module = importlib.import_module(f"tfsqueeze.{CASES[name].module}")
    values = {**vars(module), **namespace({*names_used([setup, *(each.source for each in examples)]), "tfs"})}
    exec(setup, values)
    shown = []
    runner = doctest.DocTestRunner(Checker(), verbose=False)
    runner.run(doctest.DocTest(examples, values, name, None, 0, None), out=shown.append)
    assert not runner.failures, "".join(shown)


def test_exceptions_are_still_needed():
    assert not [name for name in (*NOT_RUN, *SETUP) if name not in CASES]
