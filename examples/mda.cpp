// mda -- final delivery: listens by LMTP and files each recipient's mail in a maildir of its own, DIR/LOCAL-PART.
#include <Net/SMTP/Server.hpp>
#include <algorithm>
#include <filesystem>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Takes mail by LMTP and files each recipient's in a maildir of its own.",
        {{"--listen", "HOST:PORT", "where to listen; again for more", "", "127.0.0.1:2424", is_address},
         {"--dir", "DIR", "holds the maildirs, each named for its recipient's local part", "", "."}});
    const auto dir = std::filesystem::canonical(given("--dir")).string();
    const auto mailbox = [](const std::string& local) {
        const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; };
        return !local.empty() && std::ranges::all_of(local, plain);
    };

    Server server(given.all("--listen"), {.protocol = Protocol::lmtp});
    server.on<Event::Rcpt>([&](Event::Rcpt& e) {
        if (!mailbox(e.recipient.local)) e.reply = {550, "5.1.1", "No such mailbox"};
    });
    ready(server);

    server.run([&](Server::Client& client) {
        for (const auto& r : client.TO)
            Relay(client.FROM, {r}, client.MSG, {.target = std::make_shared<Maildir>(dir + '/' + r.local)});
    });
} catch (const std::exception& e) {
    std::fprintf(stderr, "mda: %s\n", e.what());
    return 1;
}
