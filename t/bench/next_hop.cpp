// next_hop -- what the relays of the benchmark deliver to: examples/sink, which also counts what comes.
#include <unistd.h>

#include <Net/SMTP/Server.hpp>

#include "../../examples/arguments.hpp"
#include "Arrivals.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes every mail to nowhere and counts it.",
                          {{"--listen", "HOST:PORT", "where to listen", "", "127.0.0.1:0", is_address},
                           {"--arrivals", "FILE", "where to count"}});
    given.require("--arrivals");
    auto& counted = arrivals(given("--arrivals"));
    counted.pid = static_cast<std::uint64_t>(getpid());

    Server server(given.all("--listen"), {.max_commands = 0});
    const auto nowhere = make_sink([](std::string_view) {});
    server.on<Event::Connect>([&](Event::Connect&) { ++counted.connections; });
    server.on<Event::Data>([&](Event::Data& e) { e.client.into(nowhere); });
    ready(server);
    server.run([&](Server::Client& client) {
        ++counted.messages;
        client.accept();
    });
}
