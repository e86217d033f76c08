// haraka.js -- settings for Haraka in the folder --dir: it accepts everything and discards it, to be compared with.
'use strict';
const fs = require('fs');
const path = require('path');
const { parseArgs } = require('util');

const text = { type: 'string' };
const given = parseArgs({
    options: { listen: text, 'tls-cert': text, 'tls-key': text, 'tls-port': text, dir: text },
}).values;

// One plugin of our own instead of any that look things up.
const discard = `
exports.hook_lookup_rdns = (next) => next(OK, 'localhost');
exports.hook_mail = (next) => next(OK);
exports.hook_rcpt = (next) => next(OK);
exports.hook_queue = (next) => next(OK);
`;
// Its own settings as they come, but for the limit of a mail's size.
const theirs = fs.readFileSync(require.resolve('Haraka/config/connection.ini'), 'utf8');
const listen = [given.listen, given['tls-port']].filter(Boolean);
const secure = given['tls-port'] ? given['tls-port'].split(':')[1] : 0;
const files = {
    'config/smtp.ini': `listen=${listen.join(',')}\nsmtps_port=${secure}\nnodes=0\n`,
    'config/connection.ini': theirs.replace(/^bytes=.*$/m, 'bytes=0'),
    'config/log.ini': '[main]\nlevel=error\n',
    'config/plugins': (given['tls-cert'] ? 'tls\n' : '') + 'discard\n',
    'config/me': 'localhost\n',
    'plugins/discard.js': discard,
};
if (given['tls-cert']) {
    files['config/tls_cert.pem'] = fs.readFileSync(given['tls-cert']);
    files['config/tls_key.pem'] = fs.readFileSync(given['tls-key']);
}
for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(given.dir, name)), { recursive: true });
    fs.writeFileSync(path.join(given.dir, name), content);
}
