// nodemailer -- sends standard input by Nodemailer as the environment says; see many_clients.py.
const fs = require("fs");
const say = process.env;
const transport = require("nodemailer").createTransport({
    host: "localhost", port: Number(say.PORT), name: "client.example.org", secure: say.WAY === "TLS",
    ignoreTLS: say.WAY === "clear", requireTLS: say.WAY === "STARTTLS",
    tls: { ca: say.CA ? [fs.readFileSync(say.CA)] : undefined },
    authMethod: say.MECHANISM || undefined,
    auth: say.MECHANISM ? { user: say.USER_NAME, pass: say.PASSWORD } : undefined,
});
const envelope = { from: say.FROM, to: say.TO.split(" "), use8BitMime: true };
if (!say.UTF8) envelope.dsn = { notify: ["failure"], return: "headers", id: "QQ314159" };
transport.sendMail({ envelope, raw: fs.readFileSync(0) }).then(() => transport.close(), (problem) => {
    console.error(problem);
    process.exit(1);
});
