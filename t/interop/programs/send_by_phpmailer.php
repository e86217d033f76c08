<?php
// PHPMailer -- sends standard input by PHPMailer's SMTP class as the environment says; see many_clients.py.
require getenv('PHPMAILER') . '/SMTP.php';
require getenv('PHPMAILER') . '/Exception.php';

function must($done, string $what, $client): void {
    if ($done) return;
    fwrite(STDERR, "$what: " . json_encode($client->getError()) . "\n");
    exit(1);
}

$client = new PHPMailer\PHPMailer\SMTP();
$way = getenv('WAY');
$trust = ['ssl' => ['cafile' => getenv('CA'), 'peer_name' => 'localhost']];
must($client->connect(($way === 'TLS' ? 'ssl://' : '') . 'localhost', (int) getenv('PORT'), 30, $trust), 'connect', $client);
must($client->hello('client.example.org'), 'EHLO', $client);
if ($way === 'STARTTLS') {
    must($client->startTLS(), 'STARTTLS', $client);
    must($client->hello('client.example.org'), 'EHLO', $client);
}
if (getenv('MECHANISM')) must($client->authenticate(getenv('USER_NAME'), getenv('PASSWORD'), getenv('MECHANISM')), 'AUTH', $client);
must($client->mail(getenv('FROM')), 'MAIL', $client);
foreach (explode(' ', getenv('TO')) as $to) must($client->recipient($to, 'FAILURE'), 'RCPT', $client);
must($client->data(rtrim(stream_get_contents(STDIN), "\r\n")), 'DATA', $client);
$client->quit();
