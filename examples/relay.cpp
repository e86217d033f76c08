// relay -- hands every mail of trusted clients to a smart host, while the client waits; offers what the smart host
// offers.
#include <Net/SMTP/Server.hpp>
#include <mutex>

#include "arguments.hpp"

using namespace Net::SMTP;

// What the next hop offers, asked again after a minute, or sooner while it can't be reached.
class Asked {
public:
    explicit Asked(Relay::Options via) : via_(std::move(via)) { via_.total = std::chrono::seconds(5); }
    Extensions operator()() {
        std::lock_guard lock(mutex_);
        const auto now = std::chrono::steady_clock::now();
        if (now < good_until_) return offer_;
        Reply failure;
        const auto offer = Relay::offered(via_, &failure);
        if (failure.positive()) offer_ = offer.extensions;
        good_until_ = now + std::chrono::seconds(failure.positive() ? 60 : 1);
        return offer_;
    }

private:
    Relay::Options via_;
    std::mutex mutex_;
    Extensions offer_{false, false, false, false, false, false, false, false};
    std::chrono::steady_clock::time_point good_until_{};
};

int main(int argc, char** argv) {
    const Arguments given(argc, argv, {"--listen=", "--via=", "--hostname=", "--trusted="});
    const Networks trusted(given("--trusted", "127.0.0.0/8, ::1"));
    const Relay::Options via{.host = given("--via"), .hostname = given("--hostname"), .at_rcpt = true};
    Options options{.hostname = given("--hostname")};
    options.offer.smtputf8 = options.offer.dsn = options.offer.binary_mime = true;  // as far as the next hop does

    Server server(given.all("--listen", "127.0.0.1:2525"), options);
    server.on<Event::Helo>([asked = std::make_shared<Asked>(via)](Event::Helo& e) {
        const auto next = (*asked)();
        e.offer.eight_bit_mime &= next.eight_bit_mime;
        e.offer.smtputf8 &= next.smtputf8;
        e.offer.dsn &= next.dsn;
        e.offer.binary_mime &= next.binary_mime && next.chunking;
    });
    server.on<Event::Rcpt>([&](Event::Rcpt& e) {
        if (!trusted.contains(e.client.peer())) e.reply = {550, "5.7.1", "Relaying denied"};
    });
    Relay::attach(server, via);
    server.on<Event::Trouble>([](Event::Trouble& e) { std::fprintf(stderr, "trouble: %s\n", e.what.c_str()); });
    ready(server);

    server.run([&](Server::Client& client) { Relay(client.FROM, client.TO, client.MSG, via); });
}
