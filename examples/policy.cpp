// policy -- a mail exchanger in front: takes mail for its own domains from whom no block list names, and hands it on.
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/DNSBL.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/Plugins/SenderVerify.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <Net/SMTP/Server/UnboundResolver.hpp>
#include <iterator>
#include <sstream>

#include "arguments.hpp"

using namespace Net::SMTP;

// "ZONE", or "ZONE=CODES" where only those answers count.
DNSBL::Zone zone(const std::string& text, int weight) {
    const auto equals = text.find('=');
    DNSBL::Zone zone{.name = text.substr(0, equals), .weight = weight};
    if (equals != text.npos) zone.codes = Networks(text.substr(equals + 1));
    return zone;
}

// What blanks and commas part.
std::vector<std::string> words(std::string text) {
    std::ranges::replace(text, ',', ' ');
    std::istringstream in(text);
    return {std::istream_iterator<std::string>(in), {}};
}

void print(std::string_view line) { std::fprintf(stderr, "%s\n", std::string(line).c_str()); }

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Takes mail for its own domains, asks the DNS about who brings it, and hands it on.",
        {listening,
         smart_host,
         own_name,
         {"--domains", "LIST", "mail for them is taken; with a dot in front: for what is below it"},
         {"--trusted", "NETWORKS", "who may send mail to anybody, and is not asked about", "", "", is_networks},
         {"--dnsbl", "ZONE", "refuses whom it lists; ZONE=CODES: by these answers; again for more"},
         {"--dnswl", "ZONE", "refuses none of those whom it lists, the same way; again for more"},
         {"--sender-verify", "", "refuses senders whose domain has no mail server"},
         {"--dns", "HOST:PORT", "a name server; again for more (default: the system's)"}});
    const auto dns = std::make_shared<UnboundResolver>(UnboundResolver::Options{.servers = given.all("--dns")});
    const Networks trusted(given("--trusted"));
    const Relay::Options next{.host = given("--via"), .hostname = given("--hostname"), .at_rcpt = true};
    std::vector<DNSBL::Zone> zones;
    for (const auto& text : given.all("--dnsbl")) zones.push_back(zone(text, 1));
    for (const auto& text : given.all("--dnswl")) zones.push_back(zone(text, -100));

    Server server(given.all("--listen"), {.hostname = given("--hostname")});
    auto& policies = server.pipeline();
    policies.add("dnsbl", std::make_shared<DNSBL>(DNSBL::Options{.resolver = dns,
                                                                 .zones = zones,
                                                                 .text = "{address} is listed by {zone}. {reason}",
                                                                 .reasons = true,
                                                                 .exempt = trusted}));
    if (given.has("--sender-verify"))
        policies.add("sender",
                     std::make_shared<SenderVerify>(SenderVerify::Options{.resolver = dns, .exempt = trusted}));
    policies.add("domains",
                 std::make_shared<Domains>(Domains::Options{.domains = words(given("--domains")), .trusted = trusted}));
    server.on<DNSBL::Result>([](DNSBL::Result& e) {
        for (const auto& answer : e.answers)
            if (!answer.error.empty()) print("block list " + answer.zone + ": " + answer.error);
    });
    server.on<Event::Trouble>([](Event::Trouble& e) { print("trouble: " + e.what); });
    SessionLog(print).listen(policies);
    Relay::attach(server, next);
    ready(server);

    server.run([&](Server::Client& client) { Relay(client.FROM, client.TO, client.MSG, next); });
} catch (const std::exception& e) {
    std::fprintf(stderr, "policy: %s\n", e.what());
    return 1;
}
