"""The parts of the local stack that work in a thread of their own."""

import threading
from abc import ABC, abstractmethod


class BackgroundThread(ABC):
    """A thread to be started and stopped once, and joined after all of them were stopped."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        # Daemon: a signal between its start and the `with` that joins it must not leave it behind.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new; return at once."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for what is under way."""
        if self._thread.ident is not None:
            self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Work until `_stopping` is set."""
