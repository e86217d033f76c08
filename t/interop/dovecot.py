"""dovecot.py -- a private Dovecot that takes mail by LMTP, on its port and on a Unix socket, for the users it knows, and one
that tells a Postfix whom to believe."""
from cell import Cell

USERS = ("bert@example.test", "carl@example.test")
LOCKED_OUT = "locked.out@example.test"  # accepted at RCPT, but the mail cannot be stored

CONFIGURATION = """\
protocols = lmtp
ssl = no
log_path = /dev/stderr
hostname = {hostname}
mail_location = maildir:~/Maildir
mail_fsync = always
passdb {{
  driver = static
  args = nopassword
}}
userdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener /lmtp {{
    mode = 0666
  }}
}}
"""


class Dovecot(Cell):
    """Others than its users hear 550 5.1.1 at RCPT. The Unix socket is `socket`."""
    name, users = "dovecot", (("dovecot", 64021), ("dovenull", 64022), ("vmail", 64023))

    def settle(self):
        for folder in ("var/lib/dovecot", "run/dovecot", "var/mail"):
            self.folder(folder)
        self.socket = self.root / "lmtp"
        homes = {user: self.folder(f"var/mail/{user}", "vmail", 0o700) for user in USERS}
        homes[LOCKED_OUT] = self.folder(f"var/mail/{LOCKED_OUT}", "root", 0o700)
        number = dict(self.users)["vmail"]
        self.write("etc/dovecot/users", "".join(f"{user}::{number}:{number}::{home}::\n" for user, home in homes.items()))
        self.write("etc/dovecot/dovecot.conf", CONFIGURATION.format(hostname=self.hostname, port=self.port))
        return ["/usr/sbin/dovecot", "-F"]

    def maildirs(self):
        return [(self.root / f"var/mail/{user}/Maildir", [user]) for user in USERS]


ONLY_AUTH = """\
protocols =
ssl = no
disable_plaintext_auth = no
log_path = /dev/stderr
auth_verbose = yes
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN /etc/dovecot/passwords
}}
userdb {{
  driver = static
  args = uid=dovecot gid=dovecot home=/var/empty
}}
service auth {{
  inet_listener auth {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


class DovecotAuth(Cell):
    """Knows the `passwords` of users, for such an SMTP server as asks Dovecot, by `mechanisms`; on its port."""
    name, users = "dovecot", (("dovecot", 64021), ("dovenull", 64022))

    def __init__(self, box, passwords, mechanisms="scram-sha-256 cram-md5 plain login"):
        self.passwords, self.mechanisms = passwords, mechanisms
        super().__init__(box)

    def settle(self):
        self.greeting = b"VERSION\t"
        for folder in ("var/lib/dovecot", "run/dovecot"):
            self.folder(folder)
        self.write("etc/dovecot/passwords", "".join(f"{user}:{password}\n" for user, password in self.passwords.items()))
        self.write("etc/dovecot/dovecot.conf", ONLY_AUTH.format(mechanisms=self.mechanisms, port=self.port))
        return ["/usr/sbin/dovecot", "-F"]
