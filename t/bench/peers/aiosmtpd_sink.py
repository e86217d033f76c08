# aiosmtpd: accepts everything and discards it, to be compared with.
import argparse
import asyncio
import logging
import resource
import ssl

from aiosmtpd.smtp import SMTP


class Discard:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--tls-port", help="HOST:PORT, where TLS comes before the greeting")
    parser.add_argument("--tls-cert", help="PEM file")
    parser.add_argument("--tls-key", help="PEM file")
    given = parser.parse_args()

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger("mail.log").setLevel(logging.ERROR)

    loop = asyncio.get_running_loop()
    context = None
    if given.tls_cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(given.tls_cert, given.tls_key)

    async def listen(endpoint, implicit_tls):
        host, _, port = endpoint.rpartition(":")
        # After TLS it must not offer STARTTLS once more.
        return await loop.create_server(
            lambda: SMTP(Discard(), hostname="localhost", data_size_limit=0, loop=loop,
                         tls_context=None if implicit_tls else context),
            host, int(port), backlog=4096, ssl=context if implicit_tls else None)

    server = await listen(given.listen, implicit_tls=False)
    if given.tls_port:
        await listen(given.tls_port, implicit_tls=True)
    print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    await server.serve_forever()


asyncio.run(main())
