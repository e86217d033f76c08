// receives -- a stranger's program that only receives: the session on standard input and output.
#include <Net/SMTP/Server.hpp>

int main() {
    Net::SMTP::Server::Client client(Net::SMTP::Connection(0, 1));
    while (client.process()) client.accept();
}
