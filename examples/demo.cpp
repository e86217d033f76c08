// demo -- what `make run` shows: the relay with its next hop in the same process, which saves and prints each mail.
#include <sys/stat.h>

#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <thread>

#include "arguments.hpp"
#include "envelope.hpp"
#include "security.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Relays mails to a next hop in the same process, which keeps them in files and prints envelopes.",
        SecurityFiles::options(
            {listening, {"--dir", "DIR", "where the files are; it is made", "", "build/mail"}, our_networks}));
    SecurityFiles security(given);
    const auto dir = given("--dir");
    mkdir(dir.c_str(), 0777);
    Options options{.spool_dir = dir};
    options.offer.smtputf8 = options.offer.dsn = options.offer.binary_mime = true;

    Server next_hop({"127.0.0.1:0"}, options);
    const Relay::Options via{.host = next_hop.address()};
    security.apply(options, given);
    Server server(SecurityFiles::addresses(given), options);
    std::thread next_hop_thread([&] {
        next_hop.run([&](Server::Client& client) {
            const auto file = dir + '/' + client.MSG.id() + ".eml";
            client.MSG.save(file);
            const auto subject = client.MSG.header("Subject").value_or("");
            std::printf("%s\n  saved as %s, subject %s\n", envelope(client).c_str(), file.c_str(),
                        quoted(subject).c_str());
            std::fflush(stdout);
        });
    });

    server.pipeline().add("domains",
                          std::make_shared<Domains>(Domains::Options{.trusted = Networks(given("--trusted"))}));
    security.reload_on_hang_up();
    ready(server);
    server.run([&](Server::Client& client) { Relay(client.FROM, client.TO, client.MSG, via); });
    next_hop.stop();
    next_hop_thread.join();
} catch (const std::exception& e) {
    std::fprintf(stderr, "demo: %s\n", e.what());
    return 1;
}
