"""`refunds-dev record`: a command's terminal output as an animated picture."""

from __future__ import annotations

from pathlib import Path

import click

from refunds_devkit.recording.animation import svg
from refunds_devkit.recording.capture import Recording, RecordingError, capture
from refunds_devkit.recording.scenes import scenes
from refunds_ops.errors import RefusedError
from refunds_ops.terminal import print_line

COLUMNS = 100
ROWS = 34
_PTY_ROWS = 60
"""More than the picture has, so that a live table is never cut."""
MAX_BYTES = 300_000


@click.command("record", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="The SVG file to write."
)
@click.option(
    "--cast",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the recording is kept (asciicast v2). Without COMMAND it is drawn again.",
)
@click.option("--title", default="make demo", show_default=True)
@click.option("--description", default="", help="For people who don't see the picture.")
def record(
    command: tuple[str, ...], output: Path, cast: Path, title: str, description: str
) -> None:
    """Run COMMAND and draw what it wrote as an animated SVG.

    Refuses a picture that is too large for a page, and a command that failed.
    """
    if command:
        try:
            cast.parent.mkdir(parents=True, exist_ok=True)
            capture(command, columns=COLUMNS, rows=_PTY_ROWS).save(cast)
        except RecordingError as exc:
            raise RefusedError(str(exc)) from exc
    # What only this machine has doesn't belong into a picture for everybody.
    hide = {str(Path.cwd()): "~/refunds", str(Path.home()): "~"}
    drawn = svg(
        scenes(Recording.load(cast), prompt=f"$ {title}", hide=hide),
        columns=COLUMNS,
        rows=ROWS,
        title=title,
        description=description,
    )
    size = len(drawn.encode())
    if size > MAX_BYTES:
        raise RefusedError(f"The picture would have {size:,} bytes, more than {MAX_BYTES:,}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(drawn, encoding="utf-8")
    print_line(f"{output}: {size:,} bytes")
