// thread -- an accept loop with a thread for each client, relaying every mail.
#include <Net/SMTP/Server.hpp>
#include <semaphore>
#include <thread>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Relays every mail, with a thread for each client.", {listening, smart_host});
    Server server(given.all("--listen"));
    ready(server);

    constexpr int most = 500;
    std::counting_semaphore<most> room(most);
    while (auto connection = server.accept()) {
        room.acquire();
        std::thread([&, connection = std::move(connection)]() mutable {
            {
                Server::Client client(std::move(connection));
                while (client.process()) Relay relay(client.FROM, client.TO, client.MSG, {.host = given("--via")});
            }
            room.release();
        }).detach();
    }
    for (int i = 0; i < most; ++i) room.acquire();  // who is still talking ends first
}
