"""A worker in a process of its own: `python -m tests.search.studies.study_worker`.

Arguments: URL LOG SECONDS TRIALS HEARTBEAT GRACE [HANG_AT]. It writes a line to LOG when it begins a trial
and one when it ends it; the HANG_AT-th trial it begins hangs.
"""

import json
import os
import sys
import time

from tfsqueeze.search.studies.space import Range, Space
from tfsqueeze.search.studies.study import Study

SPACE = Space({"x": Range(0.0, 1.0), "kind": ["a", "b"]})


def main(url, log, seconds, trials, heartbeat, grace, hang_at=None):
    begun = []

    def tell(event, trial):
        row = {"event": event, "worker": os.getpid(), "number": trial.number, **trial.parameters}
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "time": time.time()}) + "\n")

    def objective(trial):
        begun.append(trial.number)
        tell("begin", trial)
        if str(len(begun)) == hang_at:
            tell("hang", trial)
            time.sleep(3600)
        time.sleep(float(seconds))
        tell("end", trial)
        return trial.parameters["x"]

    life = {"heartbeat": int(heartbeat), "grace": int(grace)}
    study = Study("shared", SPACE, storage=url, sampler="tpe", seed=3, **life)
    study.run(objective, trials=int(trials), progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
