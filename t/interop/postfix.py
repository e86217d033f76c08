"""postfix.py -- a private Postfix: its own configuration, queue and log in the case's box, on a free loopback port.

Its master runs as our child, so nothing of it outlives the case. It has to be root, as Postfix drops its
rights itself; it uses users that every Debian has, for an unpacked package has made none.
"""
import grp
import os
import pwd
import socket
import subprocess
import time

from parts import PATIENCE, PEERS, Late, Skipped, check, client, free_ports, peer, wait_for

OWNER, UNPRIVILEGED, GROUP = "nobody", "daemon", "mail"  # Postfix insists that these three differ

MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {home}
sendmail_path = {root}/usr/sbin/sendmail
mail_owner = {owner}
default_privs = {unprivileged}
setgid_group = {group}
maillog_file = {log}
maillog_file_prefixes = {box}
import_environment = MAIL_CONFIG MAIL_LOGTAG POSTLOG_SERVICE POSTLOG_HOSTNAME LANG=C LD_LIBRARY_PATH
export_environment = MAIL_CONFIG LANG=C LD_LIBRARY_PATH
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
myhostname = {hostname}
myorigin = $myhostname
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtp_line_length_limit = 0
always_add_missing_headers = no
smtpd_recipient_restrictions = check_recipient_access texthash:{home}/recipients, {permit}, reject
smtpd_client_connection_count_limit = 0
smtpd_discard_ehlo_keywords = {withhold}
relayhost = [127.0.0.1]:{via}
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
{settings}"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
{services}"""

# Recipients it refuses, in words that only it has.
REFUSED = "550 5.1.1 Nobody of that name lives behind the hills"
BUSY = "450 4.2.1 The mailbox sleeps until tomorrow"
RECIPIENTS = f"refused@example.test {REFUSED}\nbusy@example.test {BUSY}\n"


class Postfix:
    """Takes mail on its port and passes all of it on to 127.0.0.1:via. `withhold` is what EHLO leaves out, `permit` says
    whose mail, `settings` are further lines of main.cf; of the `doors` each, a name and its own settings, is another port, doors[name]."""

    def __init__(self, box, via, name="postfix", withhold="", permit="permit_mynetworks", settings=(), doors=None):
        if os.geteuid() != 0:
            raise Skipped("Postfix must be started by root")
        (self.program, self.environment), self.hostname = peer("postfix", "usr/sbin/postfix"), f"{name}.example.org"
        for _ in range(3):  # the port may be taken from under us
            self.port, *others = free_ports(1 + len(doors or {}))
            self.doors = dict(zip(doors or {}, others))
            self.log = box.new(f"{name}.log")
            self.home = box.for_all_users() / self.log.stem
            services = [f"127.0.0.1:{self.doors[door]} inet n - n - - smtpd" + "".join(f"\n  -o {{ {option} }}" for option in options)
                        for door, options in (doors or {}).items()]
            self.more = {"permit": permit, "settings": "".join(f"{line}\n" for line in settings),
                         "services": "".join(f"{line}\n" for line in services)}
            self.settle(box, via, withhold)
            self.master = subprocess.Popen([PEERS / "postfix/usr/lib/postfix/sbin/master", "-d", "-c", self.home],
                                           env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=self.log.open("ab"), start_new_session=True)
            # Should this suite be killed, its end of the pipe closes. (die_with_us() does not outlast a change of user.)
            self.watch = subprocess.Popen(["/bin/sh", "-c", 'read _; kill "$0"', str(self.master.pid)],
                                          stdin=subprocess.PIPE, start_new_session=True)
            box.keep(self)
            if wait_for("Postfix starts", self.answers_or_ended) == "answers":
                return
            box.started.remove(self)
            self.kill()
        raise Late("Postfix does not start")

    def answers_or_ended(self):
        if self.master.poll() is not None:
            return "ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                return "answers" if self.hostname.encode() in probe.recv(200) else None
        except OSError:
            return None

    def settle(self, box, via, withhold):
        """Makes what `postfix check` would make, with the owners it would give."""
        owner, group = pwd.getpwnam(OWNER).pw_uid, grp.getgrnam(GROUP).gr_gid
        self.home.mkdir(mode=0o755)
        values = dict(home=self.home, root=PEERS / "postfix", owner=OWNER, unprivileged=UNPRIVILEGED, group=GROUP, log=self.log,
                      box=box.folder, hostname=self.hostname, withhold=withhold, via=via, port=self.port, **self.more)
        # Each parameter once. Postfix warns of those given twice, its log daemon too: to the socket that only it reads, which
        # has room for ten lines. If the others have filled it by then, it waits for itself, and all of them for it.
        parameters = dict(line.split(" =", 1) for line in MAIN.format(**values).splitlines())
        (self.home / "main.cf").write_text("".join(f"{name} ={value}\n" for name, value in parameters.items()))
        (self.home / "master.cf").write_text(MASTER.format(**values))
        (self.home / "recipients").write_text(RECIPIENTS)
        for name in ("main.cf", "master.cf", "recipients"):  # Postfix waits a second or two for a file just written
            os.utime(self.home / name, (0, 0))
        self.log.touch()
        queue = self.home / "queue"
        for path in (queue, queue / "pid"):
            path.mkdir(mode=0o755)
        folders = {"data": 0o700, "queue/public": 0o710, "queue/maildrop": 0o730}
        for name in "incoming active bounce defer deferred flush hold saved trace corrupt private".split():
            folders[f"queue/{name}"] = 0o700
        for name, mode in folders.items():
            path = self.home / name
            path.mkdir()
            os.chown(path, owner, group if mode & 0o070 else -1)
            path.chmod(mode)

    def tool(self, name):
        """One of its programs, set to work on this instance."""
        return [str(PEERS / "postfix/usr/sbin" / name)], {**self.environment, "MAIL_CONFIG": str(self.home)}

    def submit(self, octets, sender, to, *options):
        """Puts a mail into the queue as a local user's program would, by sendmail."""
        client(self.tool("sendmail"), *options, "-i", "-f", sender, "--", *to, stdin=octets.replace(b"\r\n", b"\n"))

    def wait_idle(self):
        """Until nothing is left in the queue."""
        wait_for("Postfix's queue is empty", lambda: "Mail queue is empty" in client(self.tool("postqueue"), "-p"))

    def wait_flushed(self):
        """The same, asking it again and again to try what it has put off: a mail just put off may miss one such call."""
        def empty():
            client(self.tool("postqueue"), "-f")
            time.sleep(0.5)
            return "Mail queue is empty" in client(self.tool("postqueue"), "-p")
        wait_for("Postfix's queue is empty", empty)

    def stop(self):
        check(self.master.poll() is None, "Postfix ended by itself")
        self.wait_idle()
        self.kill()

    def kill(self):
        """Its master passes SIGTERM on to all its processes; what is left of the group then goes by force."""
        self.watch.kill()
        self.watch.communicate()
        if self.master.poll() is None:
            self.master.terminate()
            try:
                self.master.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.master.pid, 9)
        except ProcessLookupError:
            pass
        self.master.wait()
