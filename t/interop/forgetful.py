#!/usr/bin/python3
"""forgetful.py -- a deliberately wrong smtpd: its queue is in memory, and it makes further mistakes when asked to. The checks
must catch it.

usage: t/interop/forgetful.py --listen HOST:PORT --relay HOST:PORT [--wrong WORD,...] [other options of smtpd]
  twice   each fifth mail goes out twice         greedy  takes no notice of --maxrelay
  one     the first refused recipient ends the whole mail, and nobody is told
Nothing is ever deferred by it: what cannot be stored is taken all the same. Its workers take one mail after the other,
whichever domain it is for; `--hosts FILE` is a JSON object of domain -> [host, port].
"""
import json
import os
import queue
import signal
import smtplib
import socketserver
import sys
import threading
import time

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
WRONG = arguments.get("--wrong", "").split(",")
HOSTS = json.load(open(arguments["--hosts"])) if "--hosts" in arguments else {}
waiting, numbers = queue.Queue(), iter(range(1, 1 << 60))


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 forgetful ESMTP")
        for line in iter(self.rfile.readline, b""):
            verb, argument = line[:4].upper(), line.partition(b"<")[2].partition(b">")[0].decode()
            if verb == b"MAIL":
                self.sender, self.to = argument, []
            elif verb == b"RCPT":
                self.to.append(argument)
            elif verb == b"DATA":
                self.say("354 go on")
                octets = b"".join(text.removeprefix(b".") for text in iter(self.rfile.readline, b".\r\n"))
                number = next(numbers)
                for domain in {to.rpartition("@")[2] for to in self.to}:
                    for _ in range(2 if "twice" in WRONG and number % 5 == 0 else 1):
                        mail = self.sender, [to for to in self.to if to.endswith("@" + domain)], octets
                        if "greedy" in WRONG:
                            threading.Thread(target=deliver, args=mail, daemon=True).start()
                        else:
                            waiting.put(mail)
                self.say(f"250 2.0.0 taken as {number}")
                continue
            self.say("221 bye" if verb == b"QUIT" else "250 OK")
            if verb == b"QUIT":
                return

    def say(self, reply):
        self.wfile.write(reply.encode() + b"\r\n")


def deliver(sender, to, octets):
    host, port = arguments["--relay"].rsplit(":", 1) if "--relay" in arguments else HOSTS[to[0].rpartition("@")[2]]
    try:
        with smtplib.SMTP(host, int(port), timeout=60) as hop:
            hop.ehlo()
            hop.mail(sender)
            if any(hop.rcpt(each)[0] >= 300 and "one" in WRONG for each in to):
                return
            hop.data(octets)
    except (OSError, smtplib.SMTPException):
        time.sleep(0.2)
        waiting.put((sender, to, octets))


def work():
    while True:
        deliver(*waiting.get())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 100

    def handle_error(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
for _ in range(int(arguments.get("--maxrelay", 10))):
    threading.Thread(target=work, daemon=True).start()
host, port = arguments["--listen"].rsplit(":", 1)
with Server((host, int(port)), Session) as server:
    print("listening on {}:{}".format(*server.server_address), flush=True)
    server.serve_forever()
