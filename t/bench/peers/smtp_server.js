// nodemailer's smtp-server: accepts everything and discards it, to be compared with.
'use strict';
const fs = require('fs');
const { parseArgs } = require('util');
const { SMTPServer } = require('smtp-server');

const text = { type: 'string' };
const given = parseArgs({
    options: { listen: { ...text, default: '127.0.0.1:0' }, 'tls-port': text, 'tls-cert': text, 'tls-key': text },
}).values;

const options = {
    name: 'localhost',
    authOptional: true,
    disableReverseLookup: true, // nobody else here asks the DNS
    logger: false,
    onData(stream, session, done) {
        stream.on('end', done);
        stream.resume();
    },
};
if (given['tls-cert']) {
    options.cert = fs.readFileSync(given['tls-cert']);
    options.key = fs.readFileSync(given['tls-key']);
}

function listen(endpoint, more, then) {
    const server = new SMTPServer({ ...options, ...more });
    server.on('error', () => {}); // of one connection; load sees it too
    const [host, port] = endpoint.split(':');
    server.listen({ port: Number(port), host, backlog: 4096 }, () => then(server.server.address()));
}

const ready = () => listen(given.listen, {}, at => console.log(`listening on ${at.address}:${at.port}`));
if (given['tls-port']) listen(given['tls-port'], { secure: true }, ready);
else ready();
