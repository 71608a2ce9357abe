"""Threads that run one at a time, in an order that the caller chooses. The same choices give the same run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

_STUCK_SECONDS: Final = 60.0


class CrashError(BaseException):
    """Stands for the end of a process, so no `except Exception` may catch it."""


class Actor:
    """One thread that holds the baton between `Baton.go_on` and its next `Baton.pause`."""

    def __init__(self, name: str, run: Callable[[], None], baton: Baton) -> None:
        self.name = name
        self.done = False
        self.doomed = False
        self.error: BaseException | None = None
        self.may_run = threading.Semaphore(0)
        self._run = run
        self._baton = baton
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        self.may_run.acquire()
        try:
            if not self.doomed:
                self._run()
        except CrashError:
            pass
        except BaseException as error:  # noqa: BLE001 - told to whoever made the schedule
            self.error = error
        self.done = True
        self._baton.returned.release()


class Baton:
    """Passes the baton from the caller to an actor and back."""

    def __init__(self) -> None:
        self.returned = threading.Semaphore(0)
        self.actors: list[Actor] = []
        self._current: Actor | None = None

    def start(self, name: str, run: Callable[[], None]) -> Actor:
        """Add an actor, which doesn't run yet."""
        actor = Actor(name, run, self)
        self.actors.append(actor)
        return actor

    @property
    def current(self) -> Actor:
        """The actor that has the baton."""
        assert self._current is not None
        return self._current

    def go_on(self, actor: Actor) -> None:
        """Let an actor run to its next pause or its end. Its exception is raised here."""
        self._current = actor
        actor.may_run.release()
        if not self.returned.acquire(timeout=_STUCK_SECONDS):
            raise RuntimeError(f"{actor.name} never paused")
        self._current = None
        if actor.done:
            self.actors.remove(actor)
            actor.thread.join()
            if actor.error is not None:
                raise actor.error

    def pause(self) -> None:
        """Called by an actor: let others run first."""
        actor = self.current
        self.returned.release()
        actor.may_run.acquire()
        if actor.doomed:
            raise CrashError

    def end_all(self) -> None:
        """Crash the remaining actors."""
        for actor in list(self.actors):
            actor.doomed = True
            while not actor.done:
                self._current = actor
                actor.may_run.release()
                self.returned.acquire()
            actor.thread.join()
        self.actors.clear()
