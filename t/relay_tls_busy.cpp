// relay_tls_busy -- how a server's relay encrypts while the server has a crowd, or is to stop.
#include "over_tls.hpp"
#include "secure_hop.hpp"

using namespace test;

namespace {

// A mail to a server with TLS that relays it to another while the client waits, with so many others there.
void relayed(Level level, int others, bool stops) {
    CAPTURE(int(level));
    Options options;
    options.hostname = "mail.test";
    options.tls = good_tls();
    Test::MailServer hop(options);
    auto ours = brief();
    ours.tls = good_tls();
    Server server(Addresses{"127.0.0.1:0"}, ours);
    const auto how = through(hop.address(), asking(level));
    std::string answer;
    {
        Background running([&] {
            server.run([&](Server::Client& c) {
                if (stops) server.stop();
                const Relay relay(c.FROM, c.TO, c.MSG, how);
                answer = relay.results().front().reply.str();
            });
        });
        std::vector<std::unique_ptr<Wire>> wires;
        for (int i = 0; i < others; ++i) play(*wires.emplace_back(new Wire(dial(server))), "S: 220\n");
        auto wire = dial(server);
        play(wire,
             "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b.test>\nS: 250\nC: RCPT TO:<c@d.test>\nS: 250\n"
             "C: DATA\nS: 354\nC: x\nC: .\nS: 250\n");
        wires.clear();
        server.stop();
    }
    CHECK(answer.starts_with("250"));
    const auto mails = hop.mails();
    REQUIRE(mails.size() == 1);
    CHECK(mails[0].protocol == "ESMTPS");
}

}  // namespace

TEST_CASE("in a crowd a server's relay begins its handshake itself, and nothing goes in the clear") {
    for (const auto level : {Level::may, Level::must}) relayed(level, 110, false);
}

TEST_CASE("a server that is to stop lets its relay's handshake go on, and nothing goes in the clear") {
    for (const auto level : {Level::may, Level::must}) relayed(level, 0, true);
}
