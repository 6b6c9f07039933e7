"""A door before a server of a test: shut, it keeps waiting whoever knocks."""

import socket
import threading


class Gate:
    """A door before an S3 server, through which connections go only while it is open; they wait where it is shut."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").rpartition(":")
        self._behind = (host, int(port))
        self.open = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=[inner], daemon=True).start()

    def _pass(self, inner: socket.socket) -> None:
        self.open.wait()
        outer = socket.create_connection(self._behind)
        back = threading.Thread(target=_copy, args=[outer, inner], daemon=True)
        back.start()
        _copy(inner, outer)
        back.join()
        inner.close()
        outer.close()

    def close(self) -> None:
        self.open.set()
        self._door.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
