"""How long one update of all masks takes on a model of 25 million weights (ResNet50).

python -m tests.benchmarks.bench_masks
"""

import statistics
import time

import keras

from tfsqueeze.pruning.masks import MaskRule
from tfsqueeze.pruning.targets import find_targets

RULES = {
    'scope="layer"': MaskRule(),
    'scope="global"': MaskRule(scope="global"),
    'scope="lamp"': MaskRule(scope="lamp"),
    'scope="erk"': MaskRule(scope="erk"),
    'pattern="2:4"': MaskRule(pattern="2:4"),
    "pattern=(1, 4)": MaskRule(pattern=(1, 4)),
}
REPEATS = 5


def seconds(rule: MaskRule, targets, sparsity: float) -> float:
    """Median time of `REPEATS` updates, after one that is not counted."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        rule.masks(targets, sparsity)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main():
    model = keras.applications.ResNet50(weights=None)
    print("| | weights | seconds at 50 % | seconds at 90 % |\n|---|---|---|---|")
    for name, rule in RULES.items():
        targets, _ = find_targets(model, None, rule.misfit)
        weights = sum(target.variable.numpy().size for target in targets)
        cells = [
            f"{seconds(rule, targets, sparsity):.2f}" if sparsity <= rule.pattern.max_sparsity else ""
            for sparsity in (0.5, 0.9)
        ]
        print(f"| {name} | {weights / 1e6:.1f} M | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
