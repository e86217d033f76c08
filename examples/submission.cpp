// submission -- lets the users of a file submit mail, each from his own address, and hands it on to a smart host (RFC
// 6409).
#include <Net/SMTP/Server.hpp>

#include "arguments.hpp"
#include "next_hop.hpp"
#include "security.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Lets users submit mail by TLS and AUTH, each from his own address, and hands it on.",
        SecurityFiles::options(
            next_hop_options({listening,
                              own_name,
                              {"--domain", "DOMAIN", "of users that are named without one (default: any)"},
                              max_size})));
    for (const char* needed : {"--tls-cert", "--auth-file", "--via"}) given.require(needed);
    SecurityFiles security(given);
    Options secured;
    security.apply(secured, given);
    auto options = Options::submission(secured.tls, secured.auth);
    options.hostname = given("--hostname");
    options.max_message_size = given.number("--max-size");
    const Relay::Options next{.host = given("--via"),
                              .tls = next_hop_tls(given),
                              .login = next_hop_login(given),
                              .hostname = given("--hostname"),
                              .at_rcpt = true,
                              .sessions = std::make_shared<SessionCache>()};

    Server server(SecurityFiles::addresses(given), options);
    // The user "joe" sends as joe@DOMAIN, by any domain if none is given; the user "joe@example.org" as that.
    server.on<Event::Mail>(OwnSender{given("--domain")});
    server.on<Event::Auth>([](Event::Auth& e) {
        if (!e.reply.positive())
            std::fprintf(stderr, "%s: AUTH %s failed: %s\n", e.client.peer().host.c_str(),
                         std::string(e.mechanism).c_str(), e.reason.c_str());
    });
    server.on<Event::Trouble>([](Event::Trouble& e) { std::fprintf(stderr, "trouble: %s\n", e.what.c_str()); });
    Relay::attach(server, next);
    security.reload_on_hang_up();
    ready(server);

    server.run([&](Server::Client& client) { Relay(client.FROM, client.TO, client.MSG, next); });
} catch (const std::exception& e) {
    std::fprintf(stderr, "submission: %s\n", e.what());
    return 1;
}
