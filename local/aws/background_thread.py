"""The base class of the local stack's parts that have their own thread."""

import threading
from abc import ABC, abstractmethod


class BackgroundThread(ABC):
    """A thread that is started and stopped once, and joined after all such threads were stopped."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        # A daemon, so that a signal between its start and the `with` that joins it can't leave it running.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no new work, and return at once."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for running work to end."""
        if self._thread.ident is not None:
            self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Work until `_stopping` is set."""
