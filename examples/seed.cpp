// seed -- the model's loop: one client at a time, one mail of each, relayed at once.
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Relays one mail of each client, one client at a time.", {listening, smart_host});
    Net::SMTP::Server server(given.all("--listen"));
    ready(server);

    while (auto connection = server.accept()) {
        Net::SMTP::Server::Client client(std::move(connection));
        if (!client.process()) continue;
        Net::SMTP::Relay relay(client.FROM, client.TO, client.MSG, {.host = given("--via")});
    }
}
