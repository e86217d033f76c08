"""aiosmtplib.py -- sends standard input by aiosmtplib as the environment says; see many_clients.py."""
import asyncio
import os
import ssl
import sys

import aiosmtplib


async def send():
    say = os.environ
    context = ssl.create_default_context(cafile=say["CA"]) if say["CA"] else None
    client = aiosmtplib.SMTP("localhost", int(say["PORT"]), source_address="client.example.org", use_tls=say["WAY"] == "TLS",
                             start_tls=False, tls_context=context, timeout=30)
    async with client:
        if say["WAY"] == "STARTTLS":
            await client.starttls(tls_context=context)
        if say["MECHANISM"]:
            await client.ehlo()  # its auth_crammd5() does not say it by itself
            await getattr(client, "auth_" + say["MECHANISM"].lower().replace("-", ""))(say["USER_NAME"], say["PASSWORD"])
        options = ["BODY=8BITMIME", *(["SMTPUTF8"] if say["UTF8"] else [])]
        await client.sendmail(say["FROM"], say["TO"].split(), sys.stdin.buffer.read(), mail_options=options,
                              rcpt_options=[] if say["UTF8"] else ["NOTIFY=FAILURE"])

asyncio.run(send())
