"""Kill whoever works on a round, at named or random points, and compare what comes out with an uninterrupted run.

    python tests/faults/harness.py                                     every named point, on disk and on S3
    python tests/faults/harness.py --random 200 --seed 1 --jobs 2      points drawn at random
    python tests/faults/harness.py --points plan+500:driver,1.part:scorer --storage local
    python tests/faults/harness.py --list

The quickstart runs once untouched on each kind of storage. Then it is killed and started again until its rounds are
done, and every artefact that holds no clock time has to have the same bytes. Nothing in the program knows of this: the
harness looks at the artefacts that appear and at the processes there are. Everything lies in one temporary folder, and
in a bucket of a server on loopback (SISOM_S3_ENDPOINT names another one). It prints a Markdown table, and adds a line
of JSON for every run to --out.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # started as a script, from anywhere

from tests.faults.ground import Ground, grounds  # noqa: E402
from tests.faults.killed_run import GOES_ON, OVER, KilledRun, Outcome, lasts  # noqa: E402
from tests.faults.points import AT_WORK, HEAD, MOMENTS, VICTIMS, Point, every, sample  # noqa: E402

_speaking = threading.Lock()


def say(text: str) -> None:
    """A line with the time of day, whole."""
    with _speaking:
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def main() -> int:
    """Give 0 if all kills were survived, 1 otherwise."""
    options = _options()
    if options.list:
        print("moments:", *MOMENTS, "\nvictims:", *VICTIMS, "\nat work, beside driver, raylet and gcs:")
        for moment, victims in AT_WORK.items():
            print(f"  {moment}: {', '.join(victims)}")
        return 0
    kinds = ["local", "s3"] if options.storage == "both" else [options.storage]
    folder = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # a short name: Ray's sockets lie below
    outcomes: list[Outcome] = []
    for how in (signal.SIGINT, signal.SIGTERM):  # what has begun is brought to its end
        signal.signal(how, lambda *_: OVER.set())
    try:
        with grounds(kinds, folder, options.rounds) as places:
            wholes = {}
            for ground in places:
                wholes[ground.kind] = _whole(ground)
            with ThreadPoolExecutor(options.jobs) as jobs:
                runs = list(_runs(options, places, {kind: found[1] for kind, found in wholes.items()}))
                say(f"{sum(len(points) for _, _, points in runs)} kills in {len(runs)} runs")
                waiting = [
                    jobs.submit(_one, ground, name, points, wholes[ground.kind][0], options)
                    for ground, name, points in runs
                ]
                for each in waiting:
                    outcomes.append(each.result())
    finally:
        if any(outcome.wrong for outcome in outcomes) or options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(table(outcomes))
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", help="named points, separated by commas")
    parser.add_argument(
        "--random", type=int, default=0, help="so many random kills, over all kinds of storage"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", choices=("local", "s3", "both"), default="both")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kills-a-run", type=int, default=25)
    parser.add_argument("--out", type=Path, help="a file that a JSON line is added to for every run")
    parser.add_argument("--keep", action="store_true", help="leave workspaces and logs")
    parser.add_argument("--list", action="store_true", help="the named points")
    return parser.parse_args()


def _whole(ground: Ground) -> tuple[dict[str, str], dict[tuple[int, str], float]]:
    """An uninterrupted run: its bytes, and how long its stages took."""
    began = time.monotonic()
    run = KilledRun(ground, "whole", (), random.Random(0), say)
    outcome = run.run()
    if outcome.wrong:
        raise SystemExit(f"the uninterrupted run on {ground.kind} storage failed: {outcome.wrong}")
    say(f"{ground.kind}: an uninterrupted run takes {time.monotonic() - began:.0f} s")
    return ground.artefacts("whole"), lasts(outcome.moments)


def _runs(
    options: argparse.Namespace, places: Sequence[Ground], stages: dict[str, dict[tuple[int, str], float]]
) -> Iterator[tuple[Ground, str, list[Point]]]:
    """The kills, divided into runs; kinds of storage take turns."""
    rng = random.Random(options.seed)
    most = options.kills_a_run
    if options.random:
        left, number = options.random, 0
        while left > 0:
            ground = places[number % len(places)]
            count = min(most, left)
            yield ground, f"{number:02d}", sample(rng, count, options.rounds, stages[ground.kind])
            left, number = left - count, number + 1
        return
    for ground in places:
        points = sorted(
            [Point.parse(text) for text in options.points.split(",")]
            if options.points
            else every(options.rounds),
            key=lambda point: (*point.place, point.after_ms),
        )
        parts = -(-len(points) // most)
        for part in range(parts):
            yield ground, f"{part:02d}", points[part::parts]


def _one(
    ground: Ground, name: str, points: Sequence[Point], whole: dict[str, str], options: argparse.Namespace
) -> Outcome:
    if OVER.is_set():
        return Outcome(ground.kind)
    outcome = KilledRun(ground, name, points, random.Random(f"{options.seed}/{name}"), say).run()
    if not outcome.wrong:
        found = ground.artefacts(name)
        differ = sorted(key for key in found.keys() | whole.keys() if found.get(key) != whole.get(key))
        if differ:
            outcome.wrong = f"differ from the uninterrupted run: {', '.join(differ)[:400]}"
            say(f"{ground.kind} {name}: {outcome.wrong}")
            for kill in outcome.kills:
                kill.survived = False
        elif not options.keep:
            shutil.rmtree(ground.home(name), ignore_errors=True)
    say(f"{ground.kind} {name}: {len(outcome.kills)} kills, {outcome.wrong or 'equal bytes'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with _speaking, options.out.open("a") as file:
            file.write(json.dumps(outcome.as_json()) + "\n")
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """What happened, in Markdown."""
    lines = ["| storage | killed | tried | survived | went on without a new start |", "|---|---|---|---|---|"]
    total = survived = 0
    for kind in sorted({outcome.kind for outcome in outcomes}):
        for victim in VICTIMS:
            kills = [k for o in outcomes if o.kind == kind for k in o.kills if k.point.victim == victim]
            if not kills:
                continue
            good = sum(kill.survived for kill in kills)
            total, survived = total + len(kills), survived + good
            alone = "-" if victim in HEAD else str(sum(kill.went_on for kill in kills))
            lines.append(f"| {kind} | {victim} | {len(kills)} | {good} | {alone} |")
    lines += [f"| | all | {total} | {survived} | |", ""]
    for words in GOES_ON:
        times = sum(outcome.goes_on[words] for outcome in outcomes)
        lines.append(f'starts that said "{words}": {times}')
    for kind in sorted({outcome.kind for outcome in outcomes}):
        for what, name in (("a standing Ray", "stands_s"), ("the first new artefact", "work_s")):
            seconds = sorted(s for o in outcomes if o.kind == kind for s in getattr(o, name))
            if seconds:
                tail = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
                lines.append(
                    f"{kind}, from restart to {what}: median {statistics.median(seconds):.1f} s, "
                    f"95 % {tail:.1f} s, most {seconds[-1]:.1f} s ({len(seconds)} restarts)"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
