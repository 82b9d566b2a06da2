"""A TCP proxy before a server, whose connections a test can stall or cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

CHUNK = 65536


class Proxy:
    """Forwards its own port to the port ``target`` of this machine.

    ``hold`` stalls all traffic, ``cut`` closes the port and all connections, ``heal`` ends both.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: set[socket.socket] = set()
        self._listening = self._listen(0)
        self.port: int = self._listening.getsockname()[1]

    def _listen(self, port: int) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
        return listening

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # the listening socket was closed
            while True:
                near, _ = listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._flowing.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._open |= {near, far}
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                self._flowing.wait()
                sink.sendall(chunk)
        for end in (source, sink):
            _close(end)
            self._open.discard(end)

    def hold(self) -> None:
        self._flowing.clear()

    def cut(self) -> None:
        self._flowing.set()
        _close(self._listening)
        for end in list(self._open):
            _close(end)

    def heal(self) -> None:
        self._flowing.set()
        if self._listening.fileno() == -1:
            self._listening = self._listen(self.port)

    def close(self) -> None:
        self.cut()


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for data
    end.close()
