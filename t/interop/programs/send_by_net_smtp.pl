# Net::SMTP -- sends standard input by Perl's Net::SMTP as the environment says; see many_clients.py.
use strict;
use warnings;
use Net::SMTP;

my %say = map { $_ => $ENV{$_} // '' } qw(PORT WAY CA MECHANISM USER_NAME PASSWORD FROM TO UTF8);
my %tls = (SSL_ca_file => $say{CA}, SSL_verifycn_name => 'localhost');
my $client = Net::SMTP->new('localhost', Port => $say{PORT}, Hello => 'client.example.org', Timeout => 30,
                            ($say{WAY} eq 'TLS' ? (SSL => 1, %tls) : ())) or die "no connection: $@";
if ($say{WAY} eq 'STARTTLS') { $client->starttls(%tls) or die 'STARTTLS: ', $client->message, $@ }
if ($say{MECHANISM}) {
    require Authen::SASL;
    my $sasl = Authen::SASL->new(mechanism => $say{MECHANISM}, callback => {user => $say{USER_NAME}, pass => $say{PASSWORD}});
    $client->auth($sasl) or die 'AUTH: ', $client->message;
}
binmode STDIN;
my $mail = do { local $/; <STDIN> };
my @more = $say{UTF8} ? (SMTPUTF8 => 1) : (Return => 'HDRS', Envelope => 'QQ314159');
$client->mail($say{FROM}, Bits => 8, Size => length $mail, @more) or die 'MAIL: ', $client->message;
$client->recipient(split(/ /, $say{TO}), $say{UTF8} ? () : {Notify => ['FAILURE']}) or die 'RCPT: ', $client->message;
$client->data or die 'DATA: ', $client->message;
$client->datasend($mail) or die 'text: ', $client->message;
$client->dataend or die 'end: ', $client->message;
$client->quit;
