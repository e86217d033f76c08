// program -- a stranger's program against the installed library: receives one mail from itself.
#include <Net/SMTP/Server.hpp>
#include <cstdio>
#include <thread>

using namespace Net::SMTP;

int main() {
    Server server("127.0.0.1", 0);
    std::thread receiver([&] {
        Server::Client client(server.accept());
        while (client.process()) {
            std::printf("%s -> %s: %s\n", client.FROM.str().c_str(), client.TO.at(0).str().c_str(),
                        client.MSG.header("Subject").value_or("").c_str());
            client.accept();
        }
    });
    Relay relay(Sender("a@example.org"), {Recipient("b@example.net")},
                Message("Subject: installed\r\n\r\nIt works.\r\n"), {.host = server.address()});
    receiver.join();
    return relay.delivered() ? 0 : 1;
}
