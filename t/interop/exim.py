"""exim.py -- a private Exim, which keeps what it takes in one Maildir."""
from cell import Cell
from parts import free_ports

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
{tls}
acl_smtp_rcpt = recipient
acl_smtp_data = accept

begin acl
recipient:
  {first}
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

begin authenticators
{authenticators}
"""

# By GnuTLS, as Debian builds it.
TLS = """\
tls_advertise_hosts = *
tls_certificate = /etc/exim4/certificate.pem
tls_privatekey = /etc/exim4/key.pem
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}}}
log_selector = +tls_cipher +tls_sni"""

AUTHENTICATORS = """\
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
  server_set_id = $auth1
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{ {{eq{{$auth2}}{{{user}}}}} {{eq{{$auth3}}{{{password}}}}} }}}}
  server_set_id = $auth2"""


class Exim(Cell):
    """refused@ any domain hears 550 with `refusal`."""
    refusal = "Nobody of that name lives behind the hills"
    name, users = "exim", (("Debian-exim", 64001),)

    def settle(self):
        self.folder("var/spool/exim4", "Debian-exim", 0o750)
        self.folder("var/log/exim4", "Debian-exim", 0o750)
        self.folder("var/mail/all", "Debian-exim", 0o700)
        return self.command(["-oX", f"127.0.0.1.{self.port}"], tls="tls_advertise_hosts =", first="", authenticators="")

    def command(self, options, **more):
        self.write("etc/exim4/exim4.conf", CONFIGURATION.format(hostname=self.hostname, **more))
        return ["/usr/sbin/exim4", "-bdf", *options]

    def maildirs(self):
        return [(self.root / "var/mail/all", [])]


class SecureExim(Exim):
    """Takes mail only by TLS, on tls_port from the start, and only of that user."""
    mechanisms = ("CRAM-MD5", "PLAIN")

    def __init__(self, box, pair, user, password):
        self.box, self.pair, self.user, self.password = box, pair, user, password
        super().__init__(box)

    def settle(self):
        super().settle()
        self.tls_port = next(port for port in free_ports(2) if port != self.port)
        for name, path in (("certificate", self.pair.certificate), ("key", self.pair.key)):
            self.write(f"etc/exim4/{name}.pem", path.read_text())
        return self.command([], tls=TLS.format(port=self.port, tls_port=self.tls_port),
                            first="deny message = Log in first\n       !authenticated = *",
                            authenticators=AUTHENTICATORS.format(user=self.user, password=self.password))
