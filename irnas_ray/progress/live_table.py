"""The live view of a running stage in a terminal: one table that is redrawn in place, messages above it."""

import atexit
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from irnas_ray.progress.stage_state import OVER, StageState, TrialView, clock, time_left

#: Least seconds between two drawings, so that the table is calm and costs nothing.
PAUSE = 0.5
#: Lines of a terminal that are not for trials: title, head, rules, rungs, and room for the cursor.
FRAME = 9
COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "stopped early": "yellow", "waiting": "dim"}


class LiveTable:
    """Shows a stage as a table; what it draws stays on the screen when it is closed."""

    def __init__(self, state: StageState, console: Console | None = None) -> None:
        self._state = state
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._drawn = 0.0
        self._open = False

    def event(self, text: str) -> None:
        """What the table shows anyway."""

    def message(self, text: str) -> None:
        """Print a line above the table, where it stays."""
        self._begin()
        self._console.print(Text(text), soft_wrap=True)

    def refresh(self, trials: Sequence[Any], now: bool = False) -> None:
        """Draw the trials anew, unless that was done just now."""
        if not now and time.monotonic() - self._drawn < PAUSE:
            return
        self._begin()
        self._live.update(table(self._state, trials, self._console.height), refresh=True)
        self._drawn = time.monotonic()

    def close(self) -> None:
        """Give the terminal back."""
        if self._open:
            self._open = False
            self._live.stop()
            atexit.unregister(self.close)

    def _begin(self) -> None:
        if not self._open:
            self._open = True
            self._live.start()
            # a second Ctrl-C leaves no time for more, and the cursor must come back
            atexit.register(self.close)


def table(state: StageState, trials: Sequence[Any], height: int) -> Group:
    """The stage as it stands, in at most ``height`` lines: those that run first, then the best of the others."""
    views = [state.view(trial) for trial in trials]
    shown = sorted(views, key=_interest)[: max(height - FRAME, 3)]
    rows = Table(expand=False, box=None, pad_edge=False, header_style="bold")
    for name in (state.kind, "state", "at", f"score ({state.unit})", *["rung"] * bool(state.rungs), "configuration"):
        rows.add_column(name, no_wrap=True, overflow="ellipsis", justify="right" if "score" in name else "left")
    for view in sorted(shown, key=lambda view: view.number):
        rows.add_row(*_cells(view, state))
    parts: list[Any] = [Text(_title(state, trials, views), style="bold"), rows]
    if len(shown) < len(views):
        parts.append(Text(f"... and {len(views) - len(shown)} more", style="dim"))
    rungs = state.rung_views(trials)
    if rungs:
        told = [f"epoch {rung.epoch}: {rung.reached} came, {rung.stopped} stopped" for rung in rungs]
        parts.append(Text(f"rungs  {' | '.join(told)}", style="dim", overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def _title(state: StageState, trials: Sequence[Any], views: Sequence[TrialView]) -> str:
    over = sum(view.state in OVER for view in views)
    best = f"best {state.best:.2f} {state.unit} ({state.kind} {state.best_name})" if state.best is not None else ""
    parts = [f"{state.stage} {clock(state.seconds)}", f"{over} of {state.trials} ended", best]
    return "  ".join(filter(None, [*parts, time_left(state.remaining(trials))]))


def _cells(view: TrialView, state: StageState) -> tuple[Text, ...]:
    style = COLOURS.get(view.state, "")
    score = "" if view.score is None else f"{view.score:.2f}"
    mark = "bold" if view.name == state.best_name else ""
    return (
        Text(view.name, mark),
        Text(view.state, style),
        Text(view.progress),
        Text(score, mark),
        *[Text(f"{view.rung}/{len(state.rungs)}")] * bool(state.rungs),
        Text(view.configuration, "dim"),
    )


def _interest(view: TrialView) -> tuple[int, float]:
    order = {"running": 0, "paused": 1, "waiting": 2}.get(view.state, 3)
    return order, -(view.score if view.score is not None else float("-inf"))
