"""A progress bar on a terminal's standard error, for work whose amount is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refunds_ops.terminal import console

Progress = Callable[[int], None]


@contextmanager
def progress_of(what: str, total: int) -> Iterator[Progress]:
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=out, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
