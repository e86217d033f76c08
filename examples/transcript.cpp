// transcript -- shows what clients, server and next hop say to each other, and a line for each mail and session.
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <Net/SMTP/Server/Plugins/Transcript.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) {
    const Arguments given(
        argc, argv, "Shows what is said. Takes every mail, or with --via hands on those of trusted clients.",
        {listening, smart_host, our_networks, {"--json", "", "the lines of mails and sessions are JSON"}});
    const bool relays = given.has("--via");
    Server server(given.all("--listen"));
    if (relays)
        server.pipeline().add("domains",
                              std::make_shared<Domains>(Domains::Options{.trusted = Networks(given("--trusted"))}));

    const Transcript transcript(stderr);
    transcript.listen(server.pipeline());
    const Relay::Options next{.host = given("--via"), .transcript = transcript.next_hops()};
    const auto print = [](std::string_view line) { std::puts(std::string(line).c_str()); };
    SessionLog(print, given.has("--json") ? SessionLog::Format::json : SessionLog::Format::key_value)
        .listen(server.pipeline());
    ready(server);
    server.run([&](Server::Client& client) {
        if (relays) Relay(client.FROM, client.TO, client.MSG, next);
        else client.accept();
    });
}
