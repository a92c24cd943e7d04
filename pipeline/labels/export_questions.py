"""`sisom labels export`: a round's questions as a file to answer.

People answer it, or Label Studio. Nothing is written into the workspace, and no file is overwritten: it may hold
somebody's work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

from pipeline.config.project import Config
from pipeline.errors import UserError
from pipeline.images.thumbnail import png_uri, thumbnail
from pipeline.labels.files import LabelFiles
from pipeline.labels.forms.contact_sheet import anchor, contact_sheet
from pipeline.labels.forms.label_studio_tasks import interface, to_tasks
from pipeline.labels.forms.rows import QUESTIONS, WRITERS
from pipeline.labels.forms.tables import MAX_BYTES
from pipeline.pool.lookup import look_at
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import form_of
from pipeline.store.links import presigned
from pipeline.store.opening import Store, open_store
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import latest

ENDS: Final[Mapping[str, str]] = {
    "csv": ".csv",
    "parquet": ".parquet",
    "jsonl": ".jsonl",
    "label-studio": ".json",
}
_BESIDE: Final = {"label-studio": ".xml", "csv": ".html"}  # ends of the second file
MAX_HOURS: Final = 168  # S3's limit for a signed link
_SIDE: Final = 256  # pixels of an embedded image, for people to tell classes apart


def fingerprint(image: bytes) -> str:
    """Return the digest that names an image's version.

    It shows whether an image has changed since a question about it was asked.
    """
    return f"sha256:{hashlib.sha256(image).hexdigest()}"


@dataclass(frozen=True)
class Pictures:
    """The form in which images are shown.

    A cell of CSV is too small for a picture: there `embedded` is a link to the page beside the table.

    Args:
        images: `uri`, `presigned` or `embedded`; by default `uri` for a table about image objects, else `embedded`.
        hours: how long presigned links work; whoever has such a link can read the image.
    """

    images: str | None = None
    hours: int = MAX_HOURS

    def of(self, form: str, rows: Sequence[Mapping[str, Any]]) -> Pictures:
        """Return these settings, the default of `images` filled in.

        Args:
            form: one of `ENDS`.
            rows: the questions.
        """
        return replace(self, images=self.images or _sensible(form, rows))


BY_FORM: Final = Pictures()


def export(
    config: Config,
    form: str,
    out: str,
    *,
    index: int | None = None,
    pictures: Pictures = BY_FORM,
    everything: bool = False,
) -> dict[str, Any]:
    """Write a committed round's questions to a new file.

    Args:
        config: of the project.
        form: one of `ENDS`.
        out: path or URI of the file, which must not exist; its name ends as `ENDS` says.
        index: the round; the last one by default.
        pictures: how the images are shown.
        everything: also questions that are answered already.

    Returns:
        The number of questions written, of those answered already, and of those open in each earlier round; the ids
        whose image can't be shown, with the reason; and where the files are.

    Raises:
        UserError: no such round, a file that exists, a wrong end, images that can't be shown in this way.
        StoreUnavailable: storage does not answer.
    """
    workspace = open_workspace(config)
    store, names = _place(form, out, config)
    check_outside(store.url(names[0]), workspace)
    workspace.check(config)
    chosen = workspace.committed_round(index)
    config = latest(workspace, config)
    labels = LabelFiles.read(workspace, config.labels.renamed).labels(config.taxonomy)
    answered, gone = labels.answered(), labels.withdrawn()
    query = Folder.of_round(workspace, chosen).read_table(keys.QUERY).to_pylist()
    rows = [row for row in query if row["id"] not in gone and (everything or row["id"] not in answered)]
    shown, unseen = _look(rows, config, pictures.of(form, rows), sheet=form == "csv")
    if sum(len(columns.get("picture") or "") for columns in shown.values()) > MAX_BYTES:
        raise UserError(
            f"{len(shown)} embedded images make a file too large to be read back; use --images uri"
        )
    asked = [{**row, "round": chosen, **shown[row["id"]]} for row in rows if row["id"] in shown]
    contents = _contents(form, names, asked, config)
    for name, data in zip(names, contents, strict=True):
        if not store.put_if_absent(name, data):
            raise _exists(store.url(name))
    return {
        "round": chosen,
        "questions": len(asked),
        "answered": sum(row["id"] in answered for row in query),
        "open_before": _open_before(workspace, chosen, answered.union(row["id"] for row in query)),
        "without_image": unseen,
        "files": [store.url(name) for name in names],
    }


def _contents(
    form: str, names: Sequence[str], asked: Sequence[Mapping[str, Any]], config: Config
) -> list[bytes]:
    """Write questions as the files of a form."""
    pictures = {row["id"]: row["picture"] for row in asked if row.get("picture") is not None}
    for_sheet = form == "csv"
    linked = [
        {
            **row,
            "image": row.get("image")
            or (f"{quote(names[1])}#{anchor(row)}" if for_sheet else row["picture"]),
        }
        for row in asked
    ]
    schema = _with_metadata(asked)
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in linked], schema)
    if form == "label-studio":
        return [to_tasks(table), interface(config.taxonomy)]
    if for_sheet:
        title = f"{len(asked)} questions of {names[0]}"
        return [WRITERS[form](table), contact_sheet(asked, pictures, title)]
    return [WRITERS[form](table)]


def _with_metadata(asked: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Return the columns of questions: `QUESTIONS`, and the query's own metadata."""
    own = [name for name in (asked[0] if asked else ()) if name not in (*QUESTIONS.names, "picture")]
    return pa.schema([*QUESTIONS, *(pa.field(name, pa.string()) for name in own)])


def _open_before(workspace: Workspace, index: int, others: frozenset[str]) -> dict[int, int]:
    """Count the open questions of each earlier round.

    Ids among `others` do not count; a round without open questions is left out.
    """
    open_questions = {}
    for earlier in range(index):
        asked = Folder.of_round(workspace, earlier).read_table(keys.QUERY, ["id"])["id"].to_pylist()
        if left := len(set(asked) - others):
            open_questions[earlier] = left
    return open_questions


def _place(form: str, out: str, config: Config) -> tuple[Store, list[str]]:
    """Return the store and the keys of the new files.

    Raises `UserError` for a name with a wrong end and for a file that exists.
    """
    store, name = store_of(out, config)
    stem = name.removesuffix(ENDS[form])
    if not stem or not name.endswith(ENDS[form]):
        raise UserError(f"{out}: name it *{ENDS[form]}; `sisom labels import` goes by the end")
    names = [name, f"{stem}{_BESIDE[form]}"] if form in _BESIDE else [name]
    for key in names:
        if store.exists(key):
            raise _exists(store.url(key))
    return store, names


def store_of(out: str, config: Config) -> tuple[Store, str]:
    """Return the store that holds a new file, and its key."""
    scheme, separator, path = out.rpartition("://")
    folder, slash, name = path.rpartition("/")
    return open_store(f"{scheme}{separator}{folder}{slash}" or ".", config.storage), name


def check_outside(uri: str, workspace: Workspace) -> None:
    """Refuse a place in the workspace, where answers lie."""
    place, root = (os.path.realpath(u) if "://" not in u else u for u in (uri, workspace.store.url("")))
    if place.startswith(root.rstrip("/") + "/"):
        raise UserError(
            f"{uri} lies in the workspace, whose files are the project's own; write it somewhere else"
        )


def _exists(uri: str) -> UserError:
    return UserError(f"{uri} exists already and may hold answers; give another name")


def _sensible(form: str, rows: Sequence[Mapping[str, Any]]) -> str:
    objects = all(form_of(row["uri"]) == "image" for row in rows)
    return "uri" if objects and form != "label-studio" else "embedded"


@dataclass(frozen=True)
class _Look:
    """Maker of an image's columns `fingerprint` and `picture`.

    `picture`, made only with `embed`, is a thumbnail as a data URI. An image that can't be drawn is a `Failure` if it
    `must` be.
    """

    embed: bool
    must: bool
    max_pixels: int

    def __call__(self, data: bytes) -> dict[str, str] | Failure:
        columns = {"fingerprint": fingerprint(data)}
        png = thumbnail(data, side=_SIDE, max_pixels=self.max_pixels) if self.embed else None
        if png is not None:
            columns["picture"] = png_uri(png)
        return Failure("cannot be drawn") if self.must and png is None else columns


def _look(
    rows: Sequence[Mapping[str, Any]], config: Config, pictures: Pictures, *, sheet: bool
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Look at the images of questions; with `sheet`, links get pictures too.

    Returns:
        The columns `image`, `picture` and `fingerprint` by id, and the reasons of images that can't be shown, by id.
    """
    link = _link(pictures, config)
    wanted: dict[str, list[str]] = {}
    for row in rows:
        if link is not None and form_of(row["uri"]) != "image":
            raise UserError(
                f"--images {pictures.images}: {row['uri']} is no image but holds many; use --images embedded"
            )
        wanted.setdefault(row["uri"], []).append(row["id"])
    uris = {row["id"]: row["uri"] for row in rows}
    look = _Look(link is None or sheet, link is None, config.scoring.max_pixels)
    shown, gone = {}, {}
    for name, columns in look_at(wanted, config, look):
        if isinstance(columns, Failure):
            gone[name] = columns.reason
        else:
            shown[name] = columns if link is None else {**columns, "image": link(uris[name])}
    return shown, gone


def _link(pictures: Pictures, config: Config) -> Callable[[str], str] | None:
    """Return the function that turns an image's URI into a link.

    None if images are embedded.
    """
    if pictures.images == "embedded":
        return None
    if pictures.images == "uri":
        return str
    return lambda uri: presigned(uri, config.storage, pictures.hours * 3600)
