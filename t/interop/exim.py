"""exim.py -- a private Exim, which keeps what it takes in one Maildir."""
from cell import Cell

CONFIGURATION = """\
primary_hostname = {hostname}
qualify_domain = {hostname}
local_interfaces = 127.0.0.1
hosts_treat_as_local = *
host_lookup =
rfc1413_query_timeout = 0s
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
message_size_limit = 0
keep_environment =
tls_advertise_hosts =
acl_smtp_rcpt = recipient
acl_smtp_data = accept

begin acl
recipient:
  deny message = Nobody of that name lives behind the hills
       local_parts = refused
  accept

begin routers
all:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = /var/mail/all
  maildir_format
  batch_max = 100
  return_path_add
  envelope_to_add
  user = Debian-exim
"""


class Exim(Cell):
    """refused@ any domain hears 550 with `refusal`."""
    refusal = "Nobody of that name lives behind the hills"
    name, users = "exim", (("Debian-exim", 64001),)

    def settle(self):
        self.folder("var/spool/exim4", "Debian-exim", 0o750)
        self.folder("var/log/exim4", "Debian-exim", 0o750)
        self.folder("var/mail/all", "Debian-exim", 0o700)
        self.write("etc/exim4/exim4.conf", CONFIGURATION.format(hostname=self.hostname))
        return ["/usr/sbin/exim4", "-bdf", "-oX", f"127.0.0.1.{self.port}"]

    def maildirs(self):
        return [(self.root / "var/mail/all", [])]
