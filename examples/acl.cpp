// acl -- looks at who is calling before anything is said, and turns strangers away with a text of its own.
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(
        argc, argv, "Relays the mails of friends, one client at a time, and turns everybody else away.",
        {listening, smart_host, {"--friends", "NETWORKS", "who is welcome", "", "127.0.0.0/8, ::1", is_networks}});
    const Networks friends(given("--friends"));
    Server server(given.all("--listen"));
    ready(server);

    while (auto connection = server.accept()) {
        const bool welcome = friends.contains(connection.peer());
        Server::Client client(std::move(connection));
        if (!welcome) client.reject({554, "5.7.1", "No service for " + client.peer().host});
        while (client.process()) Relay relay(client.FROM, client.TO, client.MSG, {.host = given("--via")});
    }
}
