"""cyrus.py -- a private Cyrus that takes mail by LMTP; it makes mailboxes as mail comes for them."""
import re

from cell import Cell
from clients import BERT, CARL
from maildir import Stored

USERS = (BERT, CARL)

CONF = """\
START {{
  recover cmd="ctl_cyrusdb -r"
}}
SERVICES {{
  lmtp cmd="lmtpd -a" listen="127.0.0.1:{port}" prefork=1 maxchild=20
}}
EVENTS {{
}}
"""

IMAPD = """\
configdirectory: /var/lib/cyrus
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
sievedir: /var/spool/sieve
servername: {hostname}
unixhierarchysep: yes
virtdomains: off
lmtp_downcase_rcpt: yes
autocreate_post: yes
autocreate_quota: 0
autocreate_users: bert carl.x
duplicatesuppression: no
singleinstancestore: no
reject8bit: no
munge8bit: no
sasl_pwcheck_method: auxprop
syslog_prefix: cyrus
"""


class Cyrus(Cell):
    """Knows bert and carl.x, of whatever domain; others hear 550 5.1.1 with `refusal`."""
    refusal, own_fields = "Mailbox unknown", 1
    name, users = "cyrus", (("cyrus", 64051), ("mail", 8))

    def settle(self):
        for folder in ("var/lib/cyrus", "var/spool/cyrus", "var/spool/cyrus/mail", "var/spool/sieve", "run/cyrus", "run/cyrus/proc", "run/cyrus/lock"):
            self.folder(folder, "cyrus")
        self.write("etc/imapd.conf", IMAPD.format(hostname=self.hostname))
        self.write("etc/cyrus.conf", CONF.format(port=self.port))
        return ["/usr/sbin/cyrmaster", "-D", "-L", "/tmp/cyrus.log"]

    def mails(self):
        """A mailbox's own file tells whose it is. Without the two fields that are no trace."""
        found = []
        for path in sorted((self.root / "var/spool/cyrus/mail").glob("**/[0-9]*.")):
            users = (path.parent / "cyrus.header").read_bytes()
            to = next(address for address in USERS if address.partition("@")[0].lower().encode() in users)
            found.append(Stored(path, [to]))
            found[-1].octets = re.sub(rb"(?m)^(X-Cyrus-Session-Id|X-Sieve): .*\r\n", b"", found[-1].octets)
        return found
