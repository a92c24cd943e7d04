"""The command line.

Exit status: 0 done, 2 the user's mistake, 3 waiting for labels, 4 another run holds the lease, 1 anything else.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline import __version__
from pipeline.errors import ConfigError, LabelError, UserError, mask, ours, printable

if TYPE_CHECKING:  # modules behind the commands import torch and Ray: only the chosen one pays
    from pipeline.config.project import Config

app = typer.Typer(
    name="sisom",
    help="A data engine for open-world image classification: one score for what is worth a label and what is strange.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
config_app = typer.Typer(help="Validate a config, or print it with its defaults.", no_args_is_help=True)
app.add_typer(config_app, name="config")
labels_app = typer.Typer(
    help="Hand a round's questions to people or Label Studio, and take their answers in.",
    no_args_is_help=True,
)
app.add_typer(labels_app, name="labels")

_SHOWN = 20  # of a list that may be long
_DEBUG = "--debug"

ConfigFile = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", help="A YAML file, such as configs/quickstart.yaml, or s3://bucket/key."
    ),
]
RoundNumber = Annotated[
    int | None, typer.Option("--round", min=0, help="A committed round; the last one by default.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Override a value of the config; may be given again."
    ),
]


@app.command(
    epilog="Example: `sisom run configs/quickstart.yaml --rounds 1 --set workspace=s3://bucket/project`"
)
def run(
    config: ConfigFile,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=999, help="Stop when so many rounds are committed, in all.")
    ] = None,
    set_: Sets = None,
) -> None:
    """Run rounds: train, calibrate, score the pool, ask.

    Run it again after any interruption: it continues where it stopped.
    """
    resolved = _load(config, set_)
    from pipeline.commands.run import run as run_rounds
    from pipeline.voice import Voice

    run_rounds(resolved, Voice(), rounds=rounds)


@app.command(epilog="Example: `sisom tick configs/quickstart.yaml`, every hour")
def tick(config: ConfigFile, set_: Sets = None) -> None:
    """Finish an interrupted round, or start one if there is reason.

    Made for schedulers. Without a reason it changes nothing.
    """
    resolved = _load(config, set_)
    from pipeline.commands.tick import tick as step
    from pipeline.voice import Voice

    step(resolved, Voice())


@app.command(
    epilog="Example: `sisom score configs/quickstart.yaml --pool s3://bucket/new --out runs/verdicts`"
)
def score(
    config: ConfigFile,
    *,
    pool: Annotated[str, typer.Option(metavar="URI", help="Parquet files, tars or images.")],
    out: Annotated[str, typer.Option(metavar="URI", help="Where the score files go.")],
    round_: RoundNumber = None,
    set_: Sets = None,
) -> None:
    """Score any images, and mark those out of distribution.

    The network and the bank are those of a committed round.
    """
    resolved = _load(config, set_)
    from pipeline.commands.score import score as score_images
    from pipeline.voice import Voice

    typer.echo(json.dumps(score_images(resolved, pool, out, voice=Voice(), index=round_), indent=1))


@app.command(epilog="Example: `sisom status configs/quickstart.yaml --json`")
def status(
    config: ConfigFile,
    json_: Annotated[bool, typer.Option("--json", help="For programs: everything, as JSON.")] = False,
    set_: Sets = None,
) -> None:
    """Show rounds, progress, labels and open questions."""
    resolved = _load(config, set_)
    from pipeline.commands.status import status as find_status

    state = find_status(resolved)
    if json_:
        typer.echo(json.dumps(state, indent=1))
    else:
        _print_status(state)


@app.command(epilog="Example: `sisom report configs/quickstart.yaml --out report.html`")
def report(
    config: ConfigFile,
    *,
    round_: RoundNumber = None,
    out: Annotated[Path | None, typer.Option(help="Copy the page to this file.")] = None,
    set_: Sets = None,
) -> None:
    """Print the location of a round's HTML report, or copy it."""
    resolved = _load(config, set_)
    from pipeline.workspace.artefacts import open_workspace
    from pipeline.workspace.keys import REPORT, round_key

    workspace = open_workspace(resolved)
    workspace.check(resolved)
    index = workspace.committed_round(round_)
    key = round_key(index, REPORT)
    if not workspace.exists(key):
        raise UserError(f"{workspace.store.url(key)} is gone: the page showed an image that was withdrawn")
    if out is not None:
        try:
            out.write_bytes(workspace.store.get(key))
        except OSError as error:
            raise UserError(f"{out}: {error.strerror}") from None
    typer.echo(str(out) if out is not None else workspace.store.url(key))


@app.command(epilog="Example: `sisom explain configs/quickstart.yaml pool-00042 --round 1`")
def explain(
    config: ConfigFile,
    id_: Annotated[str, typer.Argument(metavar="ID", help="An id of the pool.")],
    *,
    round_: RoundNumber = None,
    set_: Sets = None,
) -> None:
    """Explain why an image was asked about or not.

    Prints its scores, its rank and the labeled images nearest to it.
    """
    resolved = _load(config, set_)
    from pipeline.commands.explain import explain as find_reasons

    typer.echo(json.dumps(find_reasons(resolved, id_, round_), indent=1))


@app.command(epilog="Example: `sisom replay configs/quickstart.yaml --round 1 --sample 200`")
def replay(
    config: ConfigFile,
    *,
    round_: RoundNumber = None,
    sample: Annotated[int, typer.Option(min=1, help="How many images to score again.")] = 64,
    set_: Sets = None,
) -> None:
    """Score a sample of a round's pool again, and compare.

    Uses only what the round has stored; exits with 1 if any score differs.
    """
    resolved = _load(config, set_)
    from pipeline.commands.replay import replay as score_again

    comparison = score_again(resolved, round_, sample=sample)
    typer.echo(json.dumps(comparison, indent=1))
    if comparison["differ"]:
        raise typer.Exit(1)


@app.command(
    epilog="Example: `sisom study configs/openood_cifar10_small.yaml --set data.uri=s3://bucket/images`"
)
def study(config: ConfigFile, set_: Sets = None) -> None:
    """Compare strategies, detectors or variants on equal terms.

    Run it again after any interruption: finished cells are kept.
    """
    from pipeline.studies.kinds import load_study

    resolved = load_study(config, set_ or ())
    from pipeline.studies.run import study as run_study
    from pipeline.voice import Voice

    typer.echo(run_study(resolved, Voice()))


@config_app.command(
    "check", epilog="Example: `sisom config check configs/quickstart.yaml --set query.size=50`"
)
def config_check(config: ConfigFile, set_: Sets = None) -> None:
    """Look at all that a config names; tell all faults.

    Model, layers, pool, test set, labels against the pool, MLflow, this machine's memory, and whether the workspace may
    be written. Ray is not started.
    """
    from pipeline.commands.check import check

    found = check(config, set_ or ())
    for line in found.good:
        typer.echo(f"good   {printable(line)}")
    for line in found.faults:
        typer.echo(f"FAULT  {printable(line)}")
    if found.faults:
        raise ConfigError(f"{config}: {len(found.faults)} faults, see above")
    typer.echo(f"{config}: good")


@config_app.command("show", epilog="Example: `sisom config show configs/quickstart.yaml`")
def config_show(config: ConfigFile, set_: Sets = None) -> None:
    """Print the resolved config as YAML, defaults included."""
    resolved = _load(config, set_)
    from pipeline.config.load import dump

    typer.echo(mask(dump(resolved)), nl=False)  # a URI may hold a password


@labels_app.command(
    "export",
    epilog="Example: `sisom labels export configs/quickstart.yaml --to label-studio --out questions.json`",
)
def labels_export(
    config: ConfigFile,
    *,
    to: Annotated[Literal["csv", "parquet", "jsonl", "label-studio"], typer.Option(help="The form.")],
    out: Annotated[str, typer.Option(metavar="PATH_OR_URI", help="The file; it must not exist.")],
    round_: RoundNumber = None,
    images: Annotated[
        Literal["uri", "presigned", "embedded"] | None,
        typer.Option(help="How images are shown; by default as it suits the form and the pool."),
    ] = None,
    hours: Annotated[int, typer.Option(min=1, max=168, help="How long presigned links hold.")] = 168,
    all_: Annotated[bool, typer.Option("--all", help="Also what is answered already.")] = False,
    set_: Sets = None,
) -> None:
    """Write a round's open questions to a file.

    Answer them in the file, and import it.
    """
    resolved = _load(config, set_)
    from pipeline.labels.export_questions import Pictures, export

    exported = export(resolved, to, out, index=round_, pictures=Pictures(images, hours), everything=all_)
    open_ = "" if all_ else f" ({exported['answered']} more are answered)"
    typer.echo(
        f"{exported['questions']} questions of round {exported['round']:03d}{open_}: {' and '.join(exported['files'])}"
    )
    for earlier, count in exported["open_before"].items():
        typer.echo(f"{count} questions of round {earlier:03d} are open too: --round {earlier}", err=True)
    for name, why in list(exported["without_image"].items())[:_SHOWN]:
        typer.echo(f"left out: {printable(name)}: {printable(why)}", err=True)
    if len(exported["without_image"]) > _SHOWN:
        typer.echo(f"left out: {len(exported['without_image'])} in all", err=True)


@labels_app.command(
    "import", epilog="Example: `sisom labels import configs/quickstart.yaml answers.csv --annotator ann`"
)
def labels_import(
    config: ConfigFile,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help=".csv, .parquet, .jsonl, .json of Label Studio, or a folder of these."
        ),
    ],
    *,
    annotator: Annotated[str, typer.Option(help="Who answered, where a row doesn't say.")] = "",
    id_column: Annotated[str | None, typer.Option(metavar="NAME", help="What the files call the id.")] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the files call the label.")
    ] = None,
    unasked: Annotated[
        bool, typer.Option("--unasked", help="Also answers about images that no round has asked about.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the good rows though others are refused.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, and write nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For programs: the whole report, as JSON.")] = False,
    set_: Sets = None,
) -> None:
    """Check answers row by row, and import all or none.

    Importing a file again changes nothing.
    """
    resolved = _load(config, set_)
    from pipeline.labels.forms.tables import Columns
    from pipeline.labels.import_answers import take_in

    imported = take_in(
        resolved,
        files,
        annotator=annotator,
        columns=Columns(id_column, label_column),
        unasked=unasked,
        partial=partial,
        dry_run=dry_run,
    )
    if json_:
        typer.echo(json.dumps(imported, indent=1))
    else:
        _print_import(imported)
    if imported["refused"] and not partial:
        raise LabelError(
            f"{len(imported['refused'])} rows are refused and none is taken; mend them, or take the others by --partial"
        )


@labels_app.command("dump", epilog="Example: `sisom labels dump configs/quickstart.yaml --out answers.csv`")
def labels_dump(
    config: ConfigFile,
    *,
    out: Annotated[
        str, typer.Option(metavar="PATH_OR_URI", help="A .csv, .parquet or .jsonl; it must not exist.")
    ],
    set_: Sets = None,
) -> None:
    """Write all answers to a table that another project can import."""
    resolved = _load(config, set_)
    from pipeline.labels.dump import dump

    dumped = dump(resolved, out)
    left_out = f" ({dumped['withdrawn']} withdrawn images are left out)" if dumped["withdrawn"] else ""
    typer.echo(f"{dumped['answers']} answers to {dumped['images']} images{left_out}: {dumped['file']}")


@labels_app.command("withdraw", epilog="Example: `sisom labels withdraw configs/quickstart.yaml pool-00042`")
def labels_withdraw(
    config: ConfigFile,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of images that must go.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, and change nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For programs: the whole report, as JSON.")] = False,
    set_: Sets = None,
) -> None:
    """Take images out of all later rounds, and delete what shows them."""
    resolved = _load(config, set_)
    from pipeline.labels.withdraw import withdraw

    found = withdraw(resolved, ids, dry_run=dry_run)
    if json_:
        typer.echo(json.dumps(found, indent=1))
        return
    for place in found["deleted"]:
        typer.echo(printable(f"{'deleted' if found['written'] else 'would be deleted'}: {place}"))
    typer.echo(printable(_said_of_withdrawal(found)))


def _said_of_withdrawal(found: dict[str, Any]) -> str:
    def rounds(indices: list[int]) -> str:
        return ", ".join(f"{index:03d}" for index in indices) or "no round"

    place = f" -> {found['batch']}" if found["batch"] and found["written"] else ""
    done = "withdrawn" if found["written"] else "would be withdrawn (a dry run)"
    now = found["under_way"]
    under_way = "" if now is None else f" Round {now:03d} is under way and goes on with what it has seen."
    return (
        f"{len(found['withdrawn'])} images {done}{place}, {found['known']} of them before. The model and the bank of "
        f"{rounds(found['learned'])} have seen one of them, and the report of {rounds(found['shown'])} has shown one; "
        f"later rounds do neither.{under_way} The pool itself, exports and other copies outside the workspace are "
        "yours to clear."
    )


def _print_import(imported: dict[str, Any]) -> None:
    for kind in ("refused", "remarks"):
        for row in imported[kind][:_SHOWN]:
            typer.echo(
                printable(
                    f"{kind.removesuffix('s')}: {row['file']}, {row['where']}, {row['id']!r}: {row['why']}"
                )
            )
        if len(imported[kind]) > _SHOWN:
            typer.echo(f"{kind}: {len(imported[kind])} in all; --json tells them")
    for row in imported["corrected"][:_SHOWN]:
        typer.echo(printable(f"correction: {row['id']!r} was {row['was']} and is {row['now']}"))
    if len(imported["corrected"]) > _SHOWN:
        typer.echo(f"corrections: {len(imported['corrected'])} in all; --json tells them")
    for row in imported["disagree"][:_SHOWN]:
        said = ", ".join(f"{annotator} says {answer}" for annotator, answer in row["answers"].items())
        typer.echo(printable(f"disagreement: {row['id']!r}: {said}; it comes to {row['outcome']}"))
    place = f" -> {imported['batch']}" if imported["batch"] else ""
    if imported["taken"] and not imported["written"]:
        place = " (not written: a dry run)"
    typer.echo(
        f"{imported['taken']} taken{place}, "
        f"{imported['known']} known already, {imported['open']} left open, {len(imported['refused'])} refused"
    )


def _load(path: str, overrides: list[str] | None) -> Config:
    from pipeline.store.config_file import load_config

    return load_config(path, overrides or ())


def _print_status(state: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{state['workspace']}: {state['committed']} of {state['wanted']} rounds committed", markup=False
    )
    if state["rounds"]:
        table = Table(box=None, pad_edge=False)
        names = [name for name in state["rounds"][0] if name != "changed"]
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for row in state["rounds"]:
            values = [row[name] for name in names]
            table.add_row(
                *["-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
            )
        console.print(table)
    for row in state["rounds"]:
        for change in row["changed"]:
            console.print(printable(f"round {row['round']:03d} changed {change}"), markup=False)
    if state["in_progress"]:
        now = state["in_progress"]
        console.print(
            f"round {now['round']:03d} in progress: {', '.join(now['done'])} done, next {now['next']}"
        )
    counts = ", ".join(f"{name} {n}" for name, n in state["labels"]["per_class"].items()) or "none"
    console.print(f"labels: {counts}", markup=False)
    if state["labels"]["refused"]:
        refused = ", ".join(f"{name} {n}" for name, n in state["labels"]["refused"].items())
        console.print(f"other answers: {refused}")
    if state["stop"]:
        console.print(f"no further rounds: {state['stop']}")
    if state["open_questions"]:
        console.print(f"{state['open_questions']} questions of the last query are open")
    if state["lease"]:
        lease = state["lease"]
        console.print(f"process {lease['pid']} on {lease['hostname']} works here now", markup=False)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """End on our own errors with one message and their exit status.

    Other errors keep their traceback.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != 130:  # typer makes an interrupt 130, in silence
            raise
        typer.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(130)
    except Exception as error:
        known = ours(error)
        if known is None:
            raise
        if _DEBUG in sys.argv:
            traceback.print_exception(error)
        sentence, _, _ = str(known).partition("\nFailed to apply UDF")  # Ray Data adds advice of its own
        typer.echo(f"sisom: {printable(sentence)}", err=True)
        sys.exit(known.exit_code)


def main() -> None:
    """Entry point of `sisom` and `python -m pipeline`."""
    with _one_sentence():
        app(prog_name="sisom")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[  # noqa: ARG001 - read where errors end, since a command line that fails gets nowhere else
        bool, typer.Option(_DEBUG, help="Before a command: print an error's traceback too.")
    ] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
