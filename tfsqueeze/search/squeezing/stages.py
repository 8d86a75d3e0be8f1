"""The two stages of `squeeze`: quick candidates without training, then training along their front."""

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.reporting.report import Report, report
from tfsqueeze.search.squeezing.attempts import ATTEMPTS, Attempt, Epochs, is_hopeless, next_epochs
from tfsqueeze.search.squeezing.front import (
    CANDIDATE,
    LARGEST_NUMBER,
    FrontSampler,
    Point,
    StartingPoints,
    front_of,
)
from tfsqueeze.search.squeezing.objectives import Objective
from tfsqueeze.search.squeezing.paired_test import Judge
from tfsqueeze.search.squeezing.trial_log import TrialLog
from tfsqueeze.search.squeezing.workshop import Workshop
from tfsqueeze.search.studies.samplers import make_sampler
from tfsqueeze.search.studies.space import Range, Space
from tfsqueeze.search.studies.study import Study
from tfsqueeze.search.studies.trial import StopTrial, Trial

#: Parts of the validation data that quick candidates are judged on, one after the other.
RUNGS = (1 / 9, 1 / 3, 1)
FEWEST_EXAMPLES = 64
#: How often the two stages take turns, and the part of a turn's time that quick candidates may take.
TURNS = 3
QUICK_SHARE = 0.4
WITHIN = "within"


@dataclass
class Search:
    """What both stages work with.

    Attributes:
        workshop: makes candidates.
        judge: compares files with the baseline's.
        baseline: the report of the baseline's file.
        objective: what is to become small.
        epochs: numbers of epochs to train for, one after the other; the first is 0.
        max_drop: the drop allowed.
        settings: what the scores depend on, for the studies.
        storage: where the studies are kept, or None for the folder of the search.
        progress: whether to show trials.
        log: writes trials for TensorBoard.
    """

    workshop: Workshop
    judge: Judge
    baseline: Report
    objective: Objective
    epochs: tuple[int, ...]
    max_drop: float
    settings: dict[str, str]
    storage: str | None
    progress: bool
    log: TrialLog

    def __post_init__(self):
        # The cost of the cheapest candidate that is good enough: dearer ones are of no use any more.
        self._cheapest = math.inf

    def search(self, sampler, trials: int, trainings: int, seconds: float | None) -> list[Attempt]:
        """Lets the two stages take turns, so that what training shows guides what is proposed.

        Args:
            sampler: what proposes.
            trials: most candidates without training.
            trainings: most candidates to train.
            seconds: after which no trial is begun any more, or None.

        Returns:
            Every attempt.
        """
        begin = time.monotonic()
        for turn in range(1, TURNS + 1):
            left = None if seconds is None else max(seconds - (time.monotonic() - begin), 0.0)
            share = None if left is None else left / (TURNS + 1 - turn)
            quick = math.ceil(trials * turn / TURNS)
            front, settings = self.propose(sampler, quick, share and QUICK_SHARE * share)
            if turn < TURNS and front[-1].score >= -self.max_drop:
                # The cheapest so far may do without training: cheaper ones are sought first.
                continue
            limit = math.ceil(trainings * turn / TURNS)
            attempts = self.train(front, settings, limit, share and (1 - QUICK_SHARE) * share)
            good = (one.cost for one in attempts if one.verdict.is_within)
            self._cheapest = min(good, default=math.inf)
            if left == 0:
                break
        if self._cheapest == math.inf and front[0].score >= -self.max_drop:
            # Nothing that was trained will do, but the dearest candidate seemed to even without training.
            attempts = self.train(front[:1], settings, trainings + 1, None)
        return attempts

    def propose(self, sampler, trials: int, seconds: float | None) -> tuple[list[Point], dict[int, dict]]:
        """The first stage: candidates that need no training; returns their front, and settings by number."""
        repertoire = self.workshop.repertoire
        space = Space(repertoire.space())
        proposing = make_sampler(sampler, space, seed=self.workshop.seed, objectives=2)
        study = self._study(
            "candidates",
            space,
            directions=("minimize", "maximize"),
            sampler=StartingPoints(repertoire.starting_points(), proposing),
            settings=self.settings,
        )
        if seconds is None or seconds > 0:
            study.run(
                lambda trial: self._judge_quickly(trial, study),
                trials=trials,
                time_budget=seconds,
                progress=self.progress,
            )
        complete = [trial for trial in study.trials if trial.state == "complete"]
        if not complete:
            reasons = [trial.notes.get("refused") or trial.error for trial in study.trials]
            raise ValueError(
                "No candidate could be made and judged. Give more `trials` or `time_budget`. The last "
                f"reason: {next(filter(None, reversed(reasons)), 'the time was over')}"
            )
        front = front_of(Point(one.number, *one.scores) for one in complete)
        return front, {one.number: one.parameters for one in complete}

    def train(self, front, settings, trials: int, seconds: float | None) -> list[Attempt]:
        """The second stage: trains along the front; returns every attempt."""
        begin = time.monotonic()
        sampler = FrontSampler(front, WITHIN)
        study = self._study(
            "training",
            {CANDIDATE: Range(0, LARGEST_NUMBER)},
            sampler=sampler,
            settings={**self.settings, "max_drop": repr(self.max_drop), "epochs": repr(self.epochs)},
        )
        while (count := self._wanted(study, sampler, trials)) is not None:
            left = None if seconds is None else seconds - (time.monotonic() - begin)
            if left is not None and left <= 0 and study.best is not None:
                break
            # Even with no time left one candidate is trained: a search must end with a model.
            study.run(
                lambda trial: self._attempt(trial, settings[trial.parameters[CANDIDATE]]),
                trials=count,
                time_budget=None if left is None else max(left, 1.0),
                progress=self.progress,
            )
        attempts = [Attempt.of(row) for one in study.trials for row in one.notes.get(ATTEMPTS, [])]
        if not attempts:
            raise RuntimeError(
                f"No candidate could be trained. The last one failed with {study.trials[-1].error}"
            )
        return attempts

    def _wanted(self, study: Study, sampler: FrontSampler, most: int) -> int | None:
        """How many trials there are to be next, those under way included; None if all is done."""
        trials = study.trials
        if len(trials) < most and sampler.propose(study._study) is not None:
            return len(trials) + 1
        is_open = any(trial.state in ("waiting", "running") for trial in trials)
        return len(trials) if is_open else None

    def _judge_quickly(self, trial: Trial, study: Study) -> tuple[float, float]:
        with tempfile.TemporaryDirectory(dir=self.workshop.output) as folder:
            try:
                path = self.workshop.quick_file(trial.parameters, folder)
            except (UnsupportedModelError, ValueError) as error:
                # A setting may ask more of a model than it has, such as fewer channels than one per layer.
                trial.note("refused", str(error)[:300])
                raise StopTrial(str(error)) from error
            cost, _ = self._cost(path)
            trial.note("cost", cost)
            if cost >= self._cheapest:
                raise StopTrial("a cheaper one is good enough")
            counts = self._counts()
            for count, drop in zip(counts, self.judge.drops(path, counts), strict=True):
                score = -drop
                trial.note(f"score on {count}", score)
                if count < len(self.judge) and self._is_beaten(study, cost, score, count):
                    raise StopTrial(f"beaten on {count} examples")
        self.log.write(f"candidate-{trial.number}", trial.parameters, 0, {"cost": cost, "drop": -score})
        return cost, score

    def _counts(self) -> list[int]:
        """Numbers of validation examples, rising."""
        whole = len(self.judge)
        return sorted({max(min(FEWEST_EXAMPLES, whole), round(part * whole)) for part in RUNGS})

    def _is_beaten(self, study: Study, cost: float, score: float, count: int) -> bool:
        """Whether another candidate is cheaper and was clearly better on the same examples."""
        margin = 1 / count**0.5
        others = [trial.notes for trial in study.trials if trial.state == "complete"]
        return any(n["cost"] <= cost and n.get(f"score on {count}", -1e9) > score + margin for n in others)

    def _cost(self, path) -> tuple[float, Report]:
        measured = report(path, latency=self.objective.needs_latency)
        return self.objective.cost(measured, self.baseline), measured

    def _attempt(self, trial: Trial, setting: dict[str, Any]) -> float:
        """Trains a candidate for more and more epochs, until it is good enough or will not be."""
        number, rows, drops = trial.parameters[CANDIDATE], [], []
        epochs: Epochs | None = Epochs()
        while epochs is not None:
            path = self.workshop.make(setting, number, epochs).path
            cost, measured = self._cost(path)
            verdict = self.judge.verdict(path)
            size = measured.facts.file_bytes
            rows.append(asdict(Attempt(number, setting, epochs.plain, cost, size, verdict, epochs.aware)))
            trial.note(ATTEMPTS, rows)
            measures = {"cost": cost, "drop": verdict.drop, "drop at most": verdict.upper}
            self.log.write(f"trained-{number}", setting, sum(epochs), measures)
            drops.append(verdict.drop)
            if verdict.is_within or is_hopeless(drops, self.max_drop):
                break
            epochs = next_epochs(epochs, self.epochs, self._is_lost_by_rounding(setting, number, epochs))
        trial.note(WITHIN, verdict.is_within)
        return 1 - cost if verdict.is_within else self.max_drop - verdict.upper

    def _is_lost_by_rounding(self, setting, number: int, epochs: Epochs) -> bool:
        """Whether a candidate whose file is not good enough is so in float."""
        if epochs.aware or not self.workshop.repertoire.calibration(setting):
            return bool(epochs.aware)
        model = self.workshop.float_model(setting, number, epochs)
        return model is not None and self.judge.verdict(model).is_within

    def _study(self, name: str, space, **options) -> Study:
        workshop = self.workshop
        return Study(name, space, storage=self.storage, output=workshop.output, seed=workshop.seed, **options)
