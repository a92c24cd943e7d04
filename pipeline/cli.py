"""The command line. Exit status: 0 done, 2 the user's mistake, 3 waiting for labels, 4 the lease is held, 1 else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline import __version__
from pipeline.errors import LabelError, UserError, mask, ours, printable

if TYPE_CHECKING:  # the rooms behind the commands import torch and Ray: only the chosen command pays for them
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

ConfigFile = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, such as configs/quickstart.yaml.")
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
    """Run rounds: train, calibrate, score the pool, ask. Run again after anything: it goes on where it stopped."""
    resolved = _load(config, set_)
    from pipeline.commands.run import run as run_rounds
    from pipeline.voice import Voice

    run_rounds(resolved, Voice(), rounds=rounds)


@app.command(epilog="Example: `sisom tick configs/quickstart.yaml`, every hour")
def tick(config: ConfigFile, set_: Sets = None) -> None:
    """One scheduled step: finish an interrupted round, or start one if there is reason. Without reason, nothing."""
    resolved = _load(config, set_)
    from pipeline.commands.tick import tick as step
    from pipeline.voice import Voice

    step(resolved, Voice())


@app.command(
    epilog="Example: `sisom score configs/quickstart.yaml --pool s3://bucket/new --out runs/verdicts`"
)
def score(
    config: ConfigFile,
    pool: Annotated[str, typer.Option(metavar="URI", help="Parquet files, tars or images.")],
    out: Annotated[str, typer.Option(metavar="URI", help="Where the score files go.")],
    round_: RoundNumber = None,
    set_: Sets = None,
) -> None:
    """Give any images out-of-distribution scores and verdicts, with the network and bank of a committed round."""
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
    """Say where things stand: committed rounds, the one in progress, labels, open questions."""
    resolved = _load(config, set_)
    from pipeline.commands.status import status as find_status

    found = find_status(resolved)
    if json_:
        typer.echo(json.dumps(found, indent=1))
    else:
        _print_status(found)


@app.command(epilog="Example: `sisom report configs/quickstart.yaml --out report.html`")
def report(
    config: ConfigFile,
    round_: RoundNumber = None,
    out: Annotated[Path | None, typer.Option(help="Copy the page to this file.")] = None,
    set_: Sets = None,
) -> None:
    """Say where the HTML report of a round lies, or copy it to a file."""
    resolved = _load(config, set_)
    from pipeline.workspace.artefacts import open_workspace
    from pipeline.workspace.keys import REPORT, round_key

    workspace = open_workspace(resolved)
    workspace.check(resolved)
    index = workspace.committed_round(round_)
    key = round_key(index, REPORT)
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
    round_: RoundNumber = None,
    set_: Sets = None,
) -> None:
    """Tell why an image was asked about or not: its scores, its rank, the labeled images nearest to it."""
    resolved = _load(config, set_)
    from pipeline.commands.explain import explain as find_reasons

    typer.echo(json.dumps(find_reasons(resolved, id_, round_), indent=1))


@app.command(epilog="Example: `sisom replay configs/quickstart.yaml --round 1 --sample 200`")
def replay(
    config: ConfigFile,
    round_: RoundNumber = None,
    sample: Annotated[int, typer.Option(min=1, help="How many images to score again.")] = 64,
    set_: Sets = None,
) -> None:
    """Score a sample of a round's pool again from what the round has stored, and compare; exit 1 if any differs."""
    resolved = _load(config, set_)
    from pipeline.commands.replay import replay as score_again

    found = score_again(resolved, round_, sample=sample)
    typer.echo(json.dumps(found, indent=1))
    if found["differ"]:
        raise typer.Exit(1)


@app.command(
    epilog="Example: `sisom study configs/openood_cifar10_small.yaml --set data.uri=s3://bucket/images`"
)
def study(config: ConfigFile, set_: Sets = None) -> None:
    """Compare strategies, detectors or variants on equal terms. Run again after anything: finished cells are kept."""
    from pipeline.studies.kinds import load_study

    resolved = load_study(config, set_ or ())
    from pipeline.studies.run import study as run_study
    from pipeline.voice import Voice

    typer.echo(run_study(resolved, Voice()))


@config_app.command(
    "check", epilog="Example: `sisom config check configs/quickstart.yaml --set query.size=50`"
)
def config_check(config: ConfigFile, set_: Sets = None) -> None:
    """Validate a config: keys, types, catalogue names, and the layers of the model."""
    resolved = _load(config, set_)
    from pipeline.rounds.preflight import check_model

    check_model(resolved)
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
    """Write a round's open questions to a file, to be answered there and imported."""
    resolved = _load(config, set_)
    from pipeline.labels.export_questions import Pictures, export

    found = export(resolved, to, out, index=round_, pictures=Pictures(images, hours), everything=all_)
    open_ = "" if all_ else f" ({found['answered']} more are answered)"
    typer.echo(
        f"{found['questions']} questions of round {found['round']:03d}{open_}: {' and '.join(found['files'])}"
    )
    for earlier, count in found["open_before"].items():
        typer.echo(f"{count} questions of round {earlier:03d} are open too: --round {earlier}", err=True)
    for name, why in list(found["without_image"].items())[:_SHOWN]:
        typer.echo(f"left out: {printable(name)}: {printable(why)}", err=True)
    if len(found["without_image"]) > _SHOWN:
        typer.echo(f"left out: {len(found['without_image'])} in all", err=True)


@labels_app.command(
    "import", epilog="Example: `sisom labels import configs/quickstart.yaml answers.csv --annotator ann`"
)
def labels_import(
    config: ConfigFile,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help=".csv, .parquet, .jsonl, or .json of Label Studio.")
    ],
    annotator: Annotated[str, typer.Option(help="Who answered, where a row doesn't say.")] = "",
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the good rows though others are refused.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, and write nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For programs: the whole report, as JSON.")] = False,
    set_: Sets = None,
) -> None:
    """Check answers row by row and take them in, all or none. Doing it again changes nothing."""
    resolved = _load(config, set_)
    from pipeline.labels.import_answers import take_in

    found = take_in(resolved, files, annotator=annotator, partial=partial, dry_run=dry_run)
    if json_:
        typer.echo(json.dumps(found, indent=1))
    else:
        _print_import(found)
    if found["refused"] and not partial:
        raise LabelError(
            f"{len(found['refused'])} rows are refused and none is taken; mend them, or take the others by --partial"
        )


def _print_import(found: dict[str, Any]) -> None:
    for kind in ("refused", "remarks"):
        for row in found[kind][:_SHOWN]:
            typer.echo(
                printable(
                    f"{kind.removesuffix('s')}: {row['file']}, {row['where']}, {row['id']!r}: {row['why']}"
                )
            )
        if len(found[kind]) > _SHOWN:
            typer.echo(f"{kind}: {len(found[kind])} in all; --json tells them")
    for row in found["disagree"][:_SHOWN]:
        said = ", ".join(f"{annotator} says {answer}" for annotator, answer in row["answers"].items())
        typer.echo(printable(f"disagreement: {row['id']!r}: {said}; it comes to {row['outcome']}"))
    place = f" -> {found['batch']}" if found["batch"] else ""
    typer.echo(
        f"{found['taken']} taken{' (not written: a dry run)' if found['taken'] and not found['written'] else place}, "
        f"{found['known']} known already, {found['open']} left open, {len(found['refused'])} refused"
    )


def _load(path: str, overrides: list[str] | None) -> Config:
    from pipeline.config.load import load

    return load(path, overrides or ())


def _print_status(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{found['workspace']}: {found['committed']} of {found['wanted']} rounds committed", markup=False
    )
    if found["rounds"]:
        table = Table(box=None, pad_edge=False)
        names = list(found["rounds"][0])
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for row in found["rounds"]:
            values = [row[name] for name in names]
            table.add_row(
                *["-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
            )
        console.print(table)
    if found["in_progress"]:
        now = found["in_progress"]
        console.print(
            f"round {now['round']:03d} in progress: {', '.join(now['done'])} done, next {now['next']}"
        )
    counts = ", ".join(f"{name} {n}" for name, n in found["labels"]["per_class"].items()) or "none"
    console.print(f"labels: {counts}", markup=False)
    if found["labels"]["refused"]:
        refused = ", ".join(f"{name} {n}" for name, n in found["labels"]["refused"].items())
        console.print(f"other answers: {refused}")
    if found["stop"]:
        console.print(f"no further rounds: {found['stop']}")
    if found["open_questions"]:
        console.print(f"{found['open_questions']} questions of the last query are open")
    if found["lease"]:
        lease = found["lease"]
        console.print(f"process {lease['pid']} on {lease['hostname']} works here now", markup=False)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Errors that we raise on purpose end in one message and their exit status; others keep their traceback."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != 130:  # typer makes an interrupt 130, in silence
            raise
        typer.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(130)
    except Exception as error:
        found = ours(error)
        if found is None:
            raise
        sentence, _, _ = str(found).partition("\nFailed to apply UDF")  # Ray Data adds advice of its own
        typer.echo(f"sisom: {printable(sentence)}", err=True)
        sys.exit(found.exit_code)


def main() -> None:
    """Entry point of `sisom` and `python -m pipeline`."""
    with _one_sentence():
        app(prog_name="sisom")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
