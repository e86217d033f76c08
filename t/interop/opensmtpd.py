"""opensmtpd.py -- a private OpenSMTPD, which keeps what it takes in one Maildir, a copy for each recipient."""
import os
import subprocess

from cell import Cell
from parts import Skipped, free_ports
from secured import openssl

CONFIGURATION = """\
smtp max-message-size 200M
table everybody {{ "@" = nobody }}
{listen}
action keep maildir "/var/mail/all" virtual <everybody>
match from any for rcpt-to "refused@example.test" reject
match{auth} from any for any action keep
"""

IN_THE_CLEAR = "listen on 127.0.0.1 port {port} hostname {hostname}"

# `smtps` is TLS from the start. The log of who has logged in comes by -v alone.
ONLY_BY_TLS = """\
pki hop cert "/etc/smtpd/certificate.pem"
pki hop key "/etc/smtpd/key.pem"
table accounts file:/etc/smtpd/accounts
listen on 127.0.0.1 port {port} tls-require pki hop auth <accounts> hostname {hostname}
listen on 127.0.0.1 port {tls_port} smtps pki hop auth <accounts> hostname {hostname}"""

# OpenSMTPD 6.8, which Debian 12 has, marks its key by EVP_PKEY_get1_RSA(), whose result is a copy since OpenSSL 3: every
# handshake fails (its issue 1171, mended in 7.3). This is loaded into it, and puts the copy in the key's place.
MENDED = """\
#include <dlfcn.h>
extern "C" int EVP_PKEY_set1_RSA(void* key, void* rsa);
extern "C" void* EVP_PKEY_get1_RSA(void* key) {
    static const auto real = reinterpret_cast<void* (*)(void*)>(dlsym(RTLD_NEXT, "EVP_PKEY_get1_RSA"));
    void* rsa = real(key);
    if (rsa) EVP_PKEY_set1_RSA(key, rsa);
    return rsa;
}
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
        return self.command(IN_THE_CLEAR.format(hostname=self.hostname, port=self.port))

    def command(self, listen, auth=""):
        return ["/usr/sbin/smtpd", "-d", "-v", "-f", self.write("etc/smtpd.conf", CONFIGURATION.format(listen=listen, auth=auth))]

    def maildirs(self):
        return [(self.root / "var/mail/all", [])]


class SecureOpenSMTPD(OpenSMTPD):
    """Takes mail only by TLS, on tls_port from the start, and only of that user. The pair has to be RSA."""
    mechanisms = ("PLAIN", "LOGIN")

    def __init__(self, box, pair, user, password):
        self.box, self.pair, self.passwords = box, pair, {user: password}
        super().__init__(box)

    def settle(self):
        super().settle()
        self.tls_port = next(port for port in free_ports(2) if port != self.port)
        for name, path in (("certificate", self.pair.certificate), ("key", self.pair.key)):
            self.write(f"etc/smtpd/{name}.pem", path.read_text())
            (self.root / f"etc/smtpd/{name}.pem").chmod(0o600)
        self.write("etc/smtpd/accounts", "".join(f"{user} {openssl('passwd', '-6', password).strip()}\n"
                                                 for user, password in self.passwords.items()))
        command = self.command(ONLY_BY_TLS.format(hostname=self.hostname, port=self.port, tls_port=self.tls_port), " auth")
        return ["/usr/bin/sh", "-c", f'LD_PRELOAD={self.mended()} exec "$@"', "sh", *command]

    def mended(self):
        library = self.root / "mended.so"
        compiler = [os.environ.get("CXX", "g++"), "-x", "c++", "-shared", "-fPIC", "-", "-o", library]
        try:
            subprocess.run(compiler, input=MENDED.encode(), check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as reason:
            raise Skipped(f"OpenSMTPD needs a compiler: {reason}") from None
        return f"/{library.name}"
