"""tap.py -- between a client and a server: passes everything on, and notes whether the client waits for replies."""
import select
import socket
import threading

from parts import PATIENCE


class Tap:
    """Listens on `port` for what is meant for 127.0.0.1:to. `commands` are those that it saw, up to AUTH or the handshake
    of each connection; `pipelined` is whether a command came before the reply to the one
    in front of it. The reply to the verb `patient` it holds back till the next command is there, for a client that does not
    wait: no timing decides then."""

    def __init__(self, box, to, patient=b""):
        self.to, self.patient, self.pipelined, self.commands = to, patient, False, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.threads = [threading.Thread(target=self.listen, daemon=True)]
        self.threads[0].start()
        box.keep(self)

    def listen(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.carry, args=(client,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def carry(self, client):
        try:
            with client, socket.create_connection(("127.0.0.1", self.to), timeout=PATIENCE) as server:
                Carried(self, client, server).run()
        except OSError:
            pass

    def stop(self):
        self.kill()

    def kill(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        for thread in self.threads:
            thread.join(PATIENCE)


class Carried:
    """One connection. It looks at commands until AUTH or the handshake."""

    def __init__(self, tap, client, server):
        self.tap, self.client, self.server = tap, client, server
        self.watching, self.waiting, self.holding = True, 1, False  # for the greeting
        self.text, self.chunk = False, 0  # what is no command: lines up to that of a dot, or so many octets
        self.commands, self.replies = b"", b""

    def run(self):
        """Until the server has closed, as it does when the client has."""
        both = [self.client, self.server]
        while both:
            ready, _, _ = select.select([each for each in both if not (each is self.server and self.holding)], [], [], PATIENCE)
            if not ready:
                return
            if self.client in ready:  # first, so that what was sent without a wait is seen before the reply
                octets = self.client.recv(65536)
                if not octets:
                    both.remove(self.client)
                    self.holding = False
                    self.server.shutdown(socket.SHUT_WR)
                    continue
                self.server.sendall(octets)
                self.look_at_commands(octets)
            elif self.server in ready:
                octets = self.server.recv(65536)
                if not octets:
                    return
                self.look_at_replies(octets)
                self.client.sendall(octets)

    def look_at_commands(self, octets):
        self.commands += octets
        while self.watching:
            if self.chunk:
                taken = min(self.chunk, len(self.commands))
                self.chunk, self.commands = self.chunk - taken, self.commands[taken:]
            line, end, rest = self.commands.partition(b"\n")
            if not end:
                return
            self.commands = rest
            if self.text:
                self.text = line.rstrip(b"\r") != b"."
                self.waiting += not self.text
            else:
                self.look_at(line.rstrip(b"\r"))

    def look_at(self, command):
        verb = command[:4].upper()
        self.tap.commands.append(command.decode(errors="replace"))
        self.tap.pipelined |= self.waiting > 0
        self.waiting += 1
        self.watching = verb not in (b"STAR", b"AUTH")
        self.text = verb == b"DATA"
        self.chunk = int(command.split()[1]) if verb == b"BDAT" else 0
        self.holding = verb == self.tap.patient and not self.tap.pipelined

    def look_at_replies(self, octets):
        if self.watching:
            *lines, self.replies = (self.replies + octets).split(b"\n")
            self.waiting -= sum(line[3:4] != b"-" for line in lines)
