# net_smtp_server.pl -- Perl's Net::SMTP::Server: a process for each client, accepts everything and discards it, to be
# compared with.
use strict;
use warnings;
use POSIX ':sys_wait_h';
use Net::SMTP::Server;
use Net::SMTP::Server::Client;

my %given = @ARGV;
my ($host, $port) = split /:/, $given{'--listen'};
my $server = Net::SMTP::Server->new($host, $port) or die "$given{'--listen'}: $!\n";
$| = 1;
print "listening on $host:", $server->{SOCK}->sockport, "\n";

while (1) {
    my $connection = $server->accept or next;
    1 while waitpid(-1, WNOHANG) > 0;
    defined(my $child = fork) or next;
    next if $child;
    Net::SMTP::Server::Client->new($connection)->process;
    exit;
}
