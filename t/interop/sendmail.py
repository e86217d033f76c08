"""sendmail.py -- a private Sendmail, which passes on all that it takes to one port of loopback."""
from cell import Cell
from parts import client

MC = """\
divert(-1)
divert(0)
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `{hostname}')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`confPID_FILE', `/run/sendmail.pid')dnl
define(`STATUS_FILE', `/var/lib/sendmail.st')dnl
define(`HELP_FILE', `/etc/mail/helpfile')dnl
define(`confTO_IDENT', `0')dnl
define(`confDELIVERY_MODE', `background')dnl
define(`confMAX_QUEUE_CHILDREN', `0')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {via}')dnl
define(`ESMTP_MAILER_ARGS', `TCP $h {via}')dnl
define(`LOCAL_RELAY', `relay:[127.0.0.1]')dnl
{more}FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
define(`_PROMISCUOUS_RELAY_', `1')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Port={port}, Addr=127.0.0.1, Name=MTA')dnl
MAILER(`smtp')dnl
LOCAL_RULESETS
SLocal_check_rcpt
R$* refused@$*	$#error $@ 5.1.1 $: "550 Nobody of that name lives behind the hills"
"""

WITH_TLS = "define(`confCACERT', `/etc/mail/ca.pem')dnl\ndefine(`confCACERT_PATH', `/etc/mail')dnl\n"


class Sendmail(Cell):
    """refused@ any domain hears 550 with `refusal`."""
    refusal, own_fields = "Nobody of that name lives behind the hills", 1
    name, users = "sendmail", (("smmta", 64041), ("smmsp", 64042), ("mail", 8), ("daemon", 1))

    def __init__(self, box, via, ca=""):
        self.via, self.ca = via, ca
        super().__init__(box)

    def settle(self):
        for folder, mode in (("var/spool/mqueue", 0o700), ("etc/mail", 0o755), ("var/lib", 0o755), ("var/mail", 0o755)):
            self.folder(folder, mode=mode)
        self.write("etc/mail/service.switch", "hosts files\naliases files\npasswd files\n")
        self.write("etc/mail/helpfile", "")
        self.write("etc/mail/local-host-names", "")
        self.write("etc/mail/trusted-users", "root\n")
        more = ""
        if self.ca:
            self.write("etc/mail/ca.pem", self.ca.read_text())
            more += WITH_TLS
        source, macros = self.root / "etc/mail/sendmail.mc", self.peer / "usr/share/sendmail/cf"
        source.write_text(MC.format(hostname=self.hostname, via=self.via, port=self.port, more=more))
        made = client(([str(self.peer / "usr/bin/m4")], {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}), f"-D_CF_DIR_={macros}/", macros / "m4/cf.m4", source)
        self.write("etc/mail/sendmail.cf", made)
        return ["/usr/libexec/sendmail/sendmail", "-bD", "-q1s", "-C", "/etc/mail/sendmail.cf"]
