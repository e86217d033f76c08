// relay -- hands every mail of trusted clients on while the client waits: to a smart host, of which it offers what that
// offers, or by MX.
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/UnboundResolver.hpp>
#include <condition_variable>
#include <mutex>

#include "arguments.hpp"
#include "next_hop.hpp"
#include "security.hpp"

using namespace Net::SMTP;

// What the next hop offers, asked again after a minute, or sooner while it can't be reached. One asks; who comes
// meanwhile goes by the last answer, or waits for the first.
class Asked {
public:
    explicit Asked(Relay::Options via) : via_(std::move(via)) { via_.total = std::chrono::seconds(5); }
    Extensions operator()() {
        std::unique_lock lock(mutex_);
        if (asking_) answered_.wait(lock, [&] { return ever_ || !asking_; });
        if (asking_ || std::chrono::steady_clock::now() < good_until_) return offer_;
        asking_ = true;
        lock.unlock();
        Reply failure{451, "4.3.0", "Asking was not finished"};
        Offer offer;
        try {
            offer = Relay::offered(via_, &failure);
        } catch (const std::exception&) {
            // as good as no answer
        }
        lock.lock();
        if (failure.positive()) offer_ = offer.extensions;
        good_until_ = std::chrono::steady_clock::now() + std::chrono::seconds(failure.positive() ? 60 : 1);
        ever_ = true;
        asking_ = false;
        answered_.notify_all();
        return offer_;
    }

private:
    Relay::Options via_;
    std::mutex mutex_;
    std::condition_variable answered_;
    bool ever_ = false, asking_ = false;
    Extensions offer_{false, false, false, false, false, false, false, false};
    std::chrono::steady_clock::time_point good_until_{};
};

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Hands mails on while their clients wait: to the host of --via, or by MX where none is named.",
        SecurityFiles::options(next_hop_options(
            {listening,
             own_name,
             our_networks,
             max_size,
             {"--dns", "HOST:PORT", "a name server; again for more (default: the system's)"},
             {"--mx-port", "PORT", "of the hosts found by MX", "", "25", is_port},
             {"--trust-anchor", "FILE", "for DNSSEC, as /usr/share/dns/root.key; --via-tls dane needs it"}})));
    SecurityFiles security(given);
    Relay::Options next{.host = given("--via"),
                        .mx_port = static_cast<std::uint16_t>(given.number("--mx-port")),
                        .tls = next_hop_tls(given),
                        .login = next_hop_login(given),
                        .hostname = given("--hostname"),
                        .at_rcpt = true,
                        .sessions = std::make_shared<SessionCache>()};
    if (next.host.empty() || given.has("--dns") || next.tls.options().level == ClientTLS::Level::dane)
        next.resolver = std::make_shared<UnboundResolver>(
            UnboundResolver::Options{.servers = given.all("--dns"), .trust_anchor = given("--trust-anchor")});

    Options options{.hostname = given("--hostname")};
    options.max_message_size = given.number("--max-size");
    options.offer.smtputf8 = true;  // by MX a host that can't take such a mail is a refusal; so is it for 8-bit text
    if (!next.host.empty()) options.offer.dsn = options.offer.binary_mime = true;  // as far as the next hop does
    security.apply(options, given);
    Server server(SecurityFiles::addresses(given), options);
    if (!next.host.empty())
        server.on<Event::Helo>([asked = std::make_shared<Asked>(next)](Event::Helo& e) {
            const auto there = (*asked)();
            e.offer.eight_bit_mime &= there.eight_bit_mime;
            e.offer.smtputf8 &= there.smtputf8;
            e.offer.dsn &= there.dsn;
            e.offer.binary_mime &= there.binary_mime && there.chunking;
        });
    server.pipeline().add("domains",
                          std::make_shared<Domains>(Domains::Options{.trusted = Networks(given("--trusted"))}));
    Relay::attach(server, next);
    server.on<Event::Trouble>([](Event::Trouble& e) { std::fprintf(stderr, "trouble: %s\n", e.what.c_str()); });
    security.reload_on_hang_up();
    ready(server);

    server.run([&](Server::Client& client) { Relay(client.FROM, client.TO, client.MSG, next); });
} catch (const std::exception& e) {
    std::fprintf(stderr, "relay: %s\n", e.what());
    return 1;
}
