// smtp-server -- keeps what it takes in the folder DIR, as NAME.eml and NAME.json; see many_hops.py.
const crypto = require("crypto");
const fs = require("fs");
const { SMTPServer } = require("smtp-server");

const say = process.env;
let count = 0;

const options = {
    name: "smtp-server.example.org",
    disableReverseLookup: true,
    logger: false,
    size: 100 << 20,
    authMethods: ["PLAIN", "LOGIN", "CRAM-MD5"],
    authOptional: !say.CERTIFICATE,
    hideSTARTTLS: !say.CERTIFICATE,
    onAuth(auth, session, done) {
        const right = auth.validatePassword ? auth.validatePassword(say.PASSWORD) : auth.password === say.PASSWORD;
        if (auth.username !== say.USER_NAME || !right) return done(new Error("no such user"));
        done(null, { user: auth.username });
    },
    onRcptTo(address, session, done) {
        if (!address.address.startsWith("refused@")) return done();
        const refusal = new Error("Nobody of that name lives behind the hills");
        refusal.responseCode = 550;
        done(refusal);
    },
    onData(stream, session, done) {
        const parts = [];
        stream.on("data", (part) => parts.push(part));
        stream.on("end", () => {
            const name = `${say.DIR}/${++count}`, { mailFrom, rcptTo } = session.envelope;
            fs.writeFileSync(`${name}.eml`, Buffer.concat(parts));
            fs.writeFileSync(`${name}.part`, JSON.stringify({ from: mailFrom ? mailFrom.address : "", to: rcptTo.map((each) => each.address) }));
            fs.renameSync(`${name}.part`, `${name}.json`);
            done();
        });
    },
};
if (say.CERTIFICATE) Object.assign(options, { cert: fs.readFileSync(say.CERTIFICATE), key: fs.readFileSync(say.KEY) });

function listen(more, words, then) {
    const server = new SMTPServer({ ...options, ...more });
    server.on("error", () => {}); // of one connection
    server.listen(0, "127.0.0.1", () => {
        const line = `listening on 127.0.0.1:${server.server.address().port}${words}`;
        then ? then(line) : console.log(line);
    });
}
process.on("SIGTERM", () => process.exit(0));
if (say.CERTIFICATE) listen({ secure: true }, " (TLS)", (line) => { console.log(line); listen({}, ""); });
else listen({}, "");
