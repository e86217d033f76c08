// handlers -- a stranger's program with handlers: asks whose a recipient would be, and for a pattern that is none.
#include <Net/SMTP/Relay/Handlers.hpp>
#include <Net/SMTP/Server.hpp>
#include <cstdio>
#include <exception>

using namespace Net::SMTP;

int main() {
    const auto nobody = [](Server::Client&, const std::vector<Recipient>&) -> Reply { return {550, "5.1.1", "No"}; };
    Handlers handlers;
    handlers.set({{"^a@", nobody}, {"@example\\.org$", nobody}});
    std::printf("%zu", handlers.find(Recipient("b@example.org")).value());
    try {
        handlers.set({{"(", nobody}});
    } catch (const std::exception& e) {
        std::printf(", %s\n", e.what());
    }
    return handlers.get().size() == 2 ? 0 : 1;
}
