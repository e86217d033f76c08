#!/usr/bin/python3
"""early.py -- a deliberately wrong relay: it says 250 before the next hop has the mail. The checks must catch it.

usage: t/interop/early.py --listen HOST:PORT --via HOST:PORT
"""
import os
import signal
import smtplib
import socketserver
import sys


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 early ESMTP")
        for line in iter(self.rfile.readline, b""):
            verb, argument = line[:4].upper(), line[10:].strip().strip(b"<>").decode()
            if verb == b"MAIL":
                self.sender, self.to = argument, []
            elif verb == b"RCPT":
                self.to.append(argument)
            elif verb == b"DATA":
                self.say("354 go on")
                mail = b"".join(text.removeprefix(b".") for text in iter(self.rfile.readline, b".\r\n"))
                self.say("250 2.0.0 taken")  # the mistake: this process still has the only copy
                self.pass_on(mail)
                continue
            self.say("221 bye" if verb == b"QUIT" else "250 OK")

    def say(self, reply):
        self.wfile.write(reply.encode() + b"\r\n")

    def pass_on(self, mail):
        with smtplib.SMTP(*VIA, timeout=30) as next_hop:
            next_hop.sendmail(self.sender, self.to, mail)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 100

    def handle_error(self, *_):
        pass


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
VIA = address(arguments["--via"])
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
with Server(address(arguments["--listen"]), Session) as server:
    print("listening on {}:{}".format(*server.server_address), flush=True)
    server.serve_forever()
