"""aiosmtpd -- a server that keeps what it takes in the folder DIR, as NAME.eml and NAME.json; see many_hops.py."""
import asyncio
import json
import os
import signal
import ssl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

say, count = os.environ, 0


class Keeper:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 5.1.1 Nobody of that name lives behind the hills"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global count
        count += 1
        name = f"{say['DIR']}/{count}"
        with open(f"{name}.eml", "wb") as file:
            file.write(envelope.original_content)
        with open(f"{name}.part", "w") as file:
            json.dump({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None, "user": bool(session.authenticated)}, file)
        os.rename(f"{name}.part", f"{name}.json")
        return "250 kept"


def believe(server, session, envelope, mechanism, login):
    return AuthResult(success=(login.login, login.password) == (say["USER_NAME"].encode(), say["PASSWORD"].encode()))


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(say["CERTIFICATE"], say["KEY"])
    return made


async def main():
    secure = {"tls_context": context(), "require_starttls": True, "authenticator": believe, "auth_required": True} if say["CERTIFICATE"] else {}
    controller = Controller(Keeper(), hostname="127.0.0.1", port=0, enable_SMTPUTF8=True, **secure)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    server = await loop.create_server(controller.factory, "127.0.0.1", 0)
    controller.loop = loop
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await over.wait()
    server.close()

asyncio.run(main())
