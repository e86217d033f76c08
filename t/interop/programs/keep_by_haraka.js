// Haraka -- keeps what it takes in the folder DIR, as NAME.eml and NAME.json; see many_hops.py.
const fs = require("fs");
const net = require("net");
const path = require("path");

const say = process.env, home = say.HARAKA, port = Number(say.PORT);

const plugin = `
const fs = require("fs");
let count = 0;
exports.hook_lookup_rdns = (next) => next(OK, "localhost");
exports.hook_mail = (next) => next(OK);
exports.hook_rcpt = (next, connection, [address]) =>
    address.user === "refused" ? next(DENY, "Nobody of that name lives behind the hills") : next(OK);
exports.hook_queue = (next, connection) => {
    const { mail_from, rcpt_to, message_stream } = connection.transaction, name = ${JSON.stringify(say.DIR)} + "/" + ++count;
    const plain = (address) => address.user ? address.user + "@" + (address.original_host || address.host) : "";
    const file = fs.createWriteStream(name + ".eml");
    file.on("finish", () => {
        fs.writeFileSync(name + ".part", JSON.stringify({ from: plain(mail_from), to: rcpt_to.map(plain) }));
        fs.renameSync(name + ".part", name + ".json");
        next(OK);
    });
    message_stream.pipe(file, { line_endings: "\\r\\n", dot_stuffed: true });
};
exports.hook_queue_outbound = exports.hook_queue; // of those who have logged in
`;
const secure = say.CERTIFICATE ? ["tls", "auth/flat_file"] : [];
const files = {
    "config/smtp.ini": `listen=127.0.0.1:${port}${say.CERTIFICATE ? `,127.0.0.1:${say.SMTPS}\nsmtps_port=${say.SMTPS}` : ""}\nnodes=0\n`,
    "config/connection.ini": 
        // RFC 5321 4.5.3.1.6 wants lines of 998 octets to be taken as they are.
        fs.readFileSync(require.resolve("Haraka/config/connection.ini"), "utf8").replace(/^data_line_length=.*$/m, "data_line_length=1000"),
    "config/log.ini": "[main]\nlevel=error\n",
    "config/plugins": [...secure, "keep", ""].join("\n"),
    "config/me": "haraka.example.org\n",
    "config/auth_flat_file.ini": `[core]\nmethods=PLAIN,LOGIN,CRAM-MD5\n[users]\n${say.USER_NAME}=${say.PASSWORD}\n`,
    "plugins/keep.js": plugin,
};
if (say.CERTIFICATE) {
    files["config/tls_cert.pem"] = fs.readFileSync(say.CERTIFICATE);
    files["config/tls_key.pem"] = fs.readFileSync(say.KEY);
}
for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(home, name)), { recursive: true });
    fs.writeFileSync(path.join(home, name), content);
}
// Or it would have some made, which takes long.
const group = ["genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out", path.join(home, "config/dhparams.pem")];
if (say.CERTIFICATE) require("child_process").execFileSync("openssl", group);
process.on("SIGTERM", () => process.exit(0));
require("Haraka/haraka.js");

// It says itself nothing that could be waited for.
(function ask() {
    const probe = net.connect(port, "127.0.0.1");
    probe.on("error", () => setTimeout(ask, 20));
    probe.once("data", () => {
        probe.end("QUIT\r\n");
        if (say.CERTIFICATE) console.log(`listening on 127.0.0.1:${say.SMTPS} (TLS)`);
        console.log(`listening on 127.0.0.1:${port}`);
    });
})();
