"""hosts.py -- next hops on several addresses of loopback, all on one port, as mail exchangers are all on port 25."""
import errno
import socket
import threading

from parts import PATIENCE, Skipped

OFFER = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class Host:
    """Answers as it is told: `say` has a reply for a step (connect EHLO MAIL RCPT DATA dot), where None hangs up and
    what it lacks is answered well. What it has taken is in `taken`, as (sender, recipients, octets); what it hung up on
    after the dot is there too, for it has it. `asked` counts its connections."""

    def __init__(self, listening, say):
        self.socket, self.say, self.taken, self.asked, self.open = listening, say, [], 0, set()
        self.socket.listen(100)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.settimeout(PATIENCE)
            self.open.add(connection)
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        try:
            with connection, connection.makefile("rb") as lines:
                self.dialogue(connection, lines)
        except (OSError, ConnectionError):
            pass
        self.open.discard(connection)

    def dialogue(self, connection, lines):
        def said(step, otherwise):
            reply = self.say.get(step, otherwise)
            if reply is None:
                raise ConnectionAbortedError
            connection.sendall(reply.encode() + b"\r\n")
            return reply.startswith(("2", "3"))

        if not said("connect", "220 hop.example.org ESMTP"):
            return
        sender, to = None, []
        for line in lines:
            verb, address = line[:4].upper().decode("latin-1").strip(), line.partition(b"<")[2].partition(b">")[0].decode()
            if verb == "EHLO":
                said(verb, "\r\n".join(f"250-{word}" for word in ("hop.example.org", *OFFER[:-1])) + f"\r\n250 {OFFER[-1]}")
            elif verb == "MAIL" and said(verb, "250 2.1.0 ok"):
                sender, to = address, []
            elif verb == "RCPT" and said(verb, "250 2.1.5 ok"):
                to.append(address)
            elif verb == "DATA" and said(verb, "354 go on"):
                text = []
                while (line := lines.readline()) != b".\r\n":
                    if not line:
                        return
                    text.append(line.removeprefix(b"."))
                if (self.say.get("dot", "250") or "250").startswith("250"):
                    self.taken.append((sender, to, b"".join(text)))
                said("dot", "250 2.0.0 taken")
            elif verb == "QUIT":
                said(verb, "221 2.0.0 bye")
                return
            elif verb in ("RSET", "NOOP"):
                said(verb, "250 2.0.0 ok")

    def close(self):
        for each in (self.socket, *self.open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.socket.close()
        self.thread.join(PATIENCE)


class Street:
    """Holds one port on each of ADDRESSES. Where nobody has moved in, connections are refused."""
    ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "::1")

    def __init__(self, box):
        self.box, self.hosts = box, []
        for _ in range(20):
            try:
                self.free, self.port = {}, 0
                for address in self.ADDRESSES:
                    self.take(address)
                break
            except OSError as error:
                reason = error
                self.leave()
        else:
            raise Skipped(f"no port can be had on all of {self.ADDRESSES}: {reason}")
        box.keep(self)

    def take(self, address):
        try:
            door = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            self.free[address] = door
            door.bind((address, self.port))
            self.port = door.getsockname()[1]
        except OSError as reason:
            if ":" not in address or reason.errno == errno.EADDRINUSE:
                raise
            self.free.pop(address, None)  # no IPv6 here

    def host(self, address, **say):
        """A scripted host moves in."""
        if address not in self.free:
            raise Skipped(f"{address} is not on this system")
        self.hosts.append(Host(self.free.pop(address), say))
        return self.hosts[-1]

    def vacate(self, address):
        """HOST:PORT for a program to move in."""
        self.free.pop(address).close()
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    def leave(self):
        for each in self.free.values():
            each.close()

    def stop(self):
        self.kill()

    def kill(self):
        self.leave()
        for each in self.hosts:
            each.close()
