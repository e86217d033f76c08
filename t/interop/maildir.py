"""maildir.py -- reads the mails that a peer has put into a Maildir, as Sink.mails() gives what sink has written."""
import re

from parts import check

FIELD = re.compile(rb"(return-path|envelope-to|delivered-to):((?:.*\r\n)(?:[ \t].*\r\n)*)", re.IGNORECASE)


class Stored:
    """A mail as it came: without the fields that final delivery put in front, which tell its envelope. `to`: whose
    it is, where they may not say so."""

    def __init__(self, path, to):
        octets = path.read_bytes()
        self.octets = octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
        self.sender, self.to = "", list(to)  # some leave out the field for the null sender
        while field := FIELD.match(self.octets):
            addresses = [address.strip(" \t\r\n<>") for address in field[2].decode().split(",")]
            if field[1].lower() == b"return-path":
                self.sender, = addresses
            elif not to:
                self.to += addresses
            self.octets = self.octets[field.end():]
        check(self.to, "no envelope in front of", octets[:200])


class Maildirs:
    """What a peer has stored. A class derived from it has maildirs(): the folders, each with its Stored.to."""

    def mails(self):
        """All mails so far, in any order."""
        return [Stored(path, to) for folder, to in self.maildirs() for path in folder.glob("new/*")]

    def forget(self):
        """The mails that are there now are not mails() any more."""
        for folder, _ in self.maildirs():
            for path in folder.glob("new/*"):
                path.unlink()
