// inetd -- serves the one client that a super-server has put on standard input and output.
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv,
                          "Relays the mails of the one client that inetd has put on standard input and output.",
                          {smart_host});
    Server::Client client(Connection(0, 1));
    while (client.process()) Relay relay(client.FROM, client.TO, client.MSG, {.host = given("--via")});
}
