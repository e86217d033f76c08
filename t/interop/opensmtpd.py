"""opensmtpd.py -- a private OpenSMTPD, which keeps what it takes in one Maildir, a copy for each recipient."""
from cell import Cell

CONFIGURATION = """\
smtp max-message-size 200M
table everybody {{ "@" = nobody }}
listen on 127.0.0.1 port {port} hostname {hostname}
action keep maildir "/var/mail/all" virtual <everybody>
match from any for rcpt-to "refused@example.test" reject
match from any for any action keep
"""


class OpenSMTPD(Cell):
    """refused@example.test hears 550 with `refusal`."""
    refusal = "Invalid recipient"
    name, users = "opensmtpd", (("opensmtpd", 64011), ("opensmtpq", 64012), ("nobody", 65534))

    def settle(self):
        self.folder("var/lib/opensmtpd/empty", mode=0o711)
        self.folder("var/spool/smtpd", mode=0o711)
        self.folder("var/mail/all", "nobody", 0o700)
        (self.root / "var/run").symlink_to("/run")
        return ["/usr/sbin/smtpd", "-d", "-v", "-f", self.write("etc/smtpd.conf", CONFIGURATION.format(hostname=self.hostname, port=self.port))]

    def maildirs(self):
        return [(self.root / "var/mail/all", [])]
