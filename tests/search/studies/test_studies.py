"""Studies: nothing is lost, nothing repeated, by one process or several, whatever happens to them."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import optuna
import pytest
import sqlalchemy
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from tests.search.studies import postgres
from tests.search.studies.study_worker import SPACE
from tfsqueeze.search.studies import storage as storage_module
from tfsqueeze.search.studies import trial_states, workers
from tfsqueeze.search.studies.space import Range, Space
from tfsqueeze.search.studies.storage import readable, storage_url
from tfsqueeze.search.studies.study import Study

LEVELS = Space({"x": Range(0.0, 1.0)})


def study(storage=None, **options) -> Study:
    return Study("test", LEVELS, sampler="random", storage=storage or InMemoryStorage(), **options)


def value(trial) -> float:
    return trial.parameters["x"]


def retry_lost(study) -> None:
    trial_states.retry_lost(study._study, trial_states.counted_trials(study._study))


def mark_of(study) -> dict:
    (running,) = study._study.get_trials(states=(TrialState.RUNNING,))
    return running.user_attrs[workers.WORKER]


def test_an_interrupted_study_goes_on_in_its_file(tmp_path):
    seen = []

    def interrupted(trial):
        seen.append((trial.number, trial.parameters["x"], trial.seed))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return value(trial)

    first = Study("test", LEVELS, output=tmp_path / "folder")
    with pytest.raises(KeyboardInterrupt):
        first.run(interrupted, trials=6, progress=False)
    again = Study("test", LEVELS, output=tmp_path / "folder")
    assert [trial.state for trial in again.trials] == ["complete"] * 3 + ["waiting"]
    again.run(interrupted, trials=6, progress=False)
    assert [trial.state for trial in again.trials] == ["complete"] * 6
    assert seen[3] == seen[4]
    xs = [x for _, x, _ in seen]
    assert xs[3] == xs[4] and len(set(xs)) == 6 and len(xs) == 7
    again.run(interrupted, trials=6, progress=False)
    assert len(seen) == 7
    assert again.best.score == max(xs)
    assert (tmp_path / "folder" / "study.db").exists()


def test_a_trial_whose_process_is_gone_is_tried_again_and_given_up_at_last():
    storage = InMemoryStorage()
    started = study(storage)
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    for _ in range(trial_states.MAX_RETRIES + 1):
        asked = started._study.ask(LEVELS.distributions)
        mark = {**mark_of(started), "process": int(gone.stdout), "thread": 0}
        asked.set_user_attr(workers.WORKER, mark)
        assert asked.params["x"] == started._study.trials[0].params["x"]
        assert trial_states.first_number(started._study.get_trials()[-1]) == 0
        retry_lost(started)
    waiting = started._study.get_trials(states=(TrialState.WAITING,))
    assert waiting == [] and [trial.state for trial in started.trials] == ["failed"]


def test_the_trial_of_a_living_worker_is_left_alone():
    started = study()
    asked = started._study.ask(LEVELS.distributions)
    other = {**mark_of(started), "process": os.getppid()}
    asked.set_user_attr(workers.WORKER, {**other, "started": workers._started(os.getppid())})
    retry_lost(started)
    assert [trial.state for trial in started.trials] == ["running"]
    asked.set_user_attr(workers.WORKER, {**other, "started": "another time"})
    retry_lost(started)
    assert [trial.state for trial in started.trials] == ["waiting"]


def test_half_written_parameters_are_chosen_anew():
    space = Space({"x": Range(0.0, 1.0), "y": Range(0.0, 1.0)})
    half = Study("test", space, storage=InMemoryStorage())
    half._study.ask({"x": space.distributions["x"]})
    retry_lost(half)
    (waiting,) = half._study.get_trials(states=(TrialState.WAITING,))
    assert waiting.params == {}
    half.run(lambda trial: trial.parameters["y"], trials=2, progress=False)
    assert [trial.state for trial in half.trials] == ["complete"] * 2


def test_a_worker_that_slept_too_long_loses_its_trial():
    storage = InMemoryStorage()
    mine = study(storage)

    def slept(trial):
        if trial.number == 0:
            (running,) = mine._study.get_trials(states=(TrialState.RUNNING,))
            trial_states.give_back(mine._study, running._trial_id)
            trial.note("too", "late")
        return value(trial)

    mine.run(slept, trials=2, progress=False)
    assert [(trial.number, trial.state) for trial in mine.trials] == [(1, "complete"), (2, "complete")]


def test_another_model_or_space_is_refused(tmp_path):
    Study("test", LEVELS, output=tmp_path, settings={"model": "one"})
    Study("test", LEVELS, output=tmp_path, settings={"model": "one"})
    with pytest.raises(ValueError, match=r"'test' in .*study.db.* another model.*model: one there, two now"):
        Study("test", LEVELS, output=tmp_path, settings={"model": "two"})
    with pytest.raises(ValueError, match="What differs: space"):
        Study("test", {"x": Range(0.0, 2.0)}, output=tmp_path, settings={"model": "one"})
    Study("other", {"x": Range(0.0, 2.0)}, output=tmp_path)


def test_a_storage_that_cannot_be_reached(tmp_path):
    with pytest.raises(
        ValueError, match=r"Cannot reach the storage 'postgresql\+psycopg://me:\*\*\*@localhost:1/x'"
    ):
        Study("test", LEVELS, storage="postgresql+psycopg://me:secret@localhost:1/x")
    with pytest.raises(ValueError, match=r"Cannot reach the storage 'nonsense://x'.*leave `storage` out"):
        Study("test", LEVELS, storage="nonsense://x")
    broken = tmp_path / "broken.db"
    broken.write_text("no database " * 1000)
    with pytest.raises(ValueError, match=r"Cannot reach the storage .*broken.db.*not a database"):
        Study("test", LEVELS, storage=broken)
    with pytest.raises(ImportError, match=r"needs a database driver.*psycopg\[binary\]"):
        Study("test", LEVELS, storage="mysql+mysqldb://me@localhost/x")
    assert "secret" not in readable("postgresql://me:secret@host/x")
    assert storage_url("a.db", None).startswith("sqlite:////")


def test_a_storage_that_is_lost_on_the_way(tmp_path):
    begun = Study("test", LEVELS, output=tmp_path)

    def lost(trial):
        (tmp_path / "study.db").write_text("overwritten")
        for file in tmp_path.glob("study.db-*"):
            file.unlink()
        return 1.0

    with pytest.raises(ValueError, match="Cannot reach the storage"):
        begun.run(lost, trials=3, progress=False)


def test_failures_are_kept_and_three_in_a_row_raise():
    storage = InMemoryStorage()

    def sometimes(trial):
        if trial.number % 3:
            raise MemoryError("too wide")
        return value(trial)

    study(storage).run(sometimes, trials=7, progress=False)
    states = [trial.state for trial in study(storage).trials]
    assert states == ["complete", "failed", "failed"] * 2 + ["complete"]
    assert study(storage).trials[1].error == "MemoryError: too wide"

    def never(trial):
        raise ZeroDivisionError("in fit")

    failing = study()
    with pytest.raises(RuntimeError, match=r"3 trials in a row failed.*\{'x': .*ZeroDivisionError: in fit"):
        failing.run(never, trials=10, progress=False)
    assert len(failing.trials) == 3


@pytest.mark.parametrize("result", [None, "0.9", (0.1, 0.2), [None]])
def test_a_result_that_is_no_score_ends_the_search(result):
    with pytest.raises(TypeError, match="must return one number"):
        study().run(lambda trial: result, trials=3, progress=False)


def test_a_score_that_is_not_finite_counts_as_stopped():
    found = study()
    found.run(lambda trial: math.nan if trial.number == 1 else value(trial), trials=3, progress=False)
    assert [trial.state for trial in found.trials] == ["complete", "stopped early", "complete"]
    assert found.trials[1].scores == ()


@pytest.mark.parametrize("kind", ["median", "halving"])
def test_bad_trials_are_stopped_early(kind):
    found = study(early_stopping=kind)
    steps = []

    def objective(trial):
        good = trial.number % 2 == 0
        for step in range(12):
            steps.append(trial.number)
            trial.report(step, 0.1 * step + good)
        return 1.0 + good

    found.run(objective, trials=12, progress=False)
    stopped = [trial for trial in found.trials if trial.state == "stopped early"]
    assert stopped and all(trial.number % 2 for trial in stopped)
    assert len(steps) < 12 * 12 and found.best.number % 2 == 0


def test_several_objectives_give_a_front():
    found = study(directions=("maximize", "minimize"))
    found.run(lambda trial: (value(trial), value(trial) ** 2), trials=5, progress=False)
    assert len(found.front) == 5
    assert found.best.score == max(trial.score for trial in found.trials)


def test_time_and_trials_limit(capsys):
    found = study()
    found.run(lambda trial: time.sleep(0.05) or 1.0, time_budget=0.3, progress=True)
    assert 1 <= len(found.trials) <= 6
    assert "trial 0 complete: 1 in" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Give `trials` or `time_budget`"):
        found.run(value)
    with pytest.raises(ValueError, match="`time_budget` must be a number > 0"):
        found.run(value, time_budget=-1)


def test_notes_and_seeds_are_those_of_the_trial():
    first, second = study(seed=1), study(seed=1)
    for one in (first, second):
        one.run(lambda trial: trial.note("seed", trial.seed) or 1.0, trials=3, progress=False)
    seeds = [trial.notes["seed"] for trial in first.trials]
    assert len(set(seeds)) == 3 and seeds == [trial.notes["seed"] for trial in second.trials]


def test_threads_share_a_total_exactly():
    storage = InMemoryStorage()
    done = []

    def work():
        study(storage).run(
            lambda trial: time.sleep(0.01) or done.append(value(trial)) or 1.0, trials=20, progress=False
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(set(done)) == 20 == len(study(storage).trials)


def test_optunas_own_samplers_pruners_and_storages_fit():
    sampler = optuna.samplers.TPESampler(n_startup_trials=2, seed=0)
    pruner = optuna.pruners.PercentilePruner(25.0)
    found = Study("test", LEVELS, sampler=sampler, early_stopping=pruner, storage=InMemoryStorage())
    found.run(value, trials=4, progress=False)
    assert len({value(trial) for trial in found.trials}) == 4


@pytest.fixture
def database():
    reason = postgres.reason_to_skip()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    with postgres.server() as url:
        yield url


@pytest.mark.slow
def test_connections_that_were_cut_are_replaced(database, monkeypatch):
    monkeypatch.setattr(storage_module, "IDLE_SECONDS", 0)
    started = study(database)
    started.run(value, trials=2, progress=False)
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        everybody_else = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        connection.execute(sqlalchemy.text(everybody_else))
    engine.dispose()
    started.run(value, trials=4, progress=False)
    assert [trial.state for trial in started.trials] == ["complete"] * 4


def begin_worker(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.search.studies.study_worker", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def rows(log) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def hung(log, seconds=240) -> dict:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for row in rows(log):
            if row["event"] == "hang":
                return row
        time.sleep(0.2)
    raise AssertionError("the worker did not get to its trial")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "fate"),
    [("database", signal.SIGKILL), ("database", signal.SIGSTOP), ("file", signal.SIGKILL)],
    ids=["database-killed", "database-frozen", "file-killed"],
)
def test_two_processes_share_a_study_and_one_is_lost(place, fate, request, tmp_path):
    url = request.getfixturevalue("database") if place == "database" else str(tmp_path / "study.db")
    log, total = tmp_path / "log", 12
    arguments = (url, log, 0.3, total, 1, 5)
    lost, living = begin_worker(*arguments, 3), begin_worker(*arguments)
    try:
        row = hung(log)
        lost.send_signal(fate)
        _, errors = living.communicate(timeout=240)
        assert living.returncode == 0, errors
    finally:
        for process in (lost, living):
            process.kill()
            process.wait()
    ends = [(row["number"], row["x"], row["kind"]) for row in rows(log) if row["event"] == "end"]
    assert len(ends) == len(set(ends)) == total
    retried = [one for one in rows(log) if one["event"] == "end" and one["x"] == row["x"]]
    assert len(retried) == 1 and retried[0]["worker"] == living.pid
    assert {one["worker"] for one in rows(log)} == {lost.pid, living.pid}
    found = Study("shared", SPACE, storage=url)
    assert [trial.state for trial in found.trials] == ["complete"] * total
