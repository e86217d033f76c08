// handlers -- sorts mail by its recipients: reports to a function, an archive to a maildir, the rest to the next hop.
#include <Net/SMTP/Relay/Handlers.hpp>
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

// Gets a message once, with those of its recipients that its pattern matches; the reply is theirs alone.
Reply report(Server::Client& client, const std::vector<Recipient>& to) {
    const auto subject = client.MSG.header("Subject").value_or("");
    if (subject.empty()) return {550, "5.6.0", "A report needs a subject"};
    std::printf("%s reports to %s: %s\n", client.FROM.str().c_str(), to.front().str().c_str(), subject.c_str());
    std::fflush(stdout);
    return {250, "2.6.0", "Noted"};
}

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Notes what comes for bugs@, keeps what comes for the archive, relays the rest for who may.",
        {listening,
         smart_host,
         our_networks,
         {"--archive", "PATTERN", "RE2: whose mail is kept", "--dir", "(?i)@archive\\.example\\.org$"},
         {"--dir", "DIR", "a maildir, absolute: where it is kept"}});
    std::vector<Handlers::Handler> list{{"(?i)^bugs@", report}};
    if (given.has("--dir")) list.push_back({given("--archive"), std::make_shared<Maildir>(given("--dir"))});

    // Transactions are of one destination each, so that one's trouble brings nobody else the same mail twice. The list
    // may be replaced at any time.
    const auto handlers = std::make_shared<Handlers>(Handlers::Options{.one_handler = true});
    handlers->set(std::move(list));

    Server server(given.all("--listen"));
    server.pipeline().add("domains",
                          std::make_shared<Domains>(Domains::Options{.trusted = Networks(given("--trusted"))}));
    server.pipeline().add("handlers", handlers);
    ready(server);

    // TO holds those whom no handler wanted.
    server.run([&](Server::Client& client) { Relay(client.FROM, client.TO, client.MSG, {.host = given("--via")}); });
} catch (const std::exception& e) {
    std::fprintf(stderr, "handlers: %s\n", e.what());
    return 1;
}
