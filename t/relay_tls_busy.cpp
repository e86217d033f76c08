// relay_tls_busy -- how a server's relay encrypts while the server has a crowd, or is to stop.
#include "over_tls.hpp"
#include "secure_hop.hpp"

using namespace test;

namespace {

// A next hop that never speaks first under TLS, as all of them.
struct EncryptingHop : Test::MailServer {
    EncryptingHop()
        : Test::MailServer([] {
              Options o;
              o.hostname = "mail.test";
              o.tls = good_tls();
              return o;
          }()) {}
    std::string where() const { return "127.0.0.1:" + std::to_string(port()); }
};

// What comes of a mail to a server that relays it while the client waits, with so many others there.
struct Passed {
    std::vector<Test::Mail> mails;
    std::string answer;
};
Passed passed(Level level, int others, bool stops) {
    EncryptingHop hop;
    auto options = brief();
    options.tls = good_tls();
    Server server(Addresses{"127.0.0.1:0"}, options);
    const auto how = through(hop.where(), asking(level));
    Passed out;
    {
        Background running([&] {
            server.run([&](Server::Client& c) {
                if (stops) server.stop();
                Relay relay(c.FROM, c.TO, c.MSG, how);
                out.answer = relay.results().front().reply.str();
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
    out.mails = hop.mails();
    return out;
}

}  // namespace

TEST_CASE("in a crowd a server's relay begins its handshake itself, and nothing goes in the clear") {
    for (const auto level : {Level::may, Level::must}) {
        CAPTURE(int(level));
        const auto [mails, answer] = passed(level, 110, false);
        CHECK(answer.starts_with("250"));
        REQUIRE(mails.size() == 1);
        CHECK(mails[0].protocol == "ESMTPS");
    }
}

TEST_CASE("a server that is to stop lets its relay's handshake go on, and nothing goes in the clear") {
    for (const auto level : {Level::may, Level::must}) {
        CAPTURE(int(level));
        const auto [mails, answer] = passed(level, 0, true);
        CHECK(answer.starts_with("250"));
        REQUIRE(mails.size() == 1);
        CHECK(mails[0].protocol == "ESMTPS");
    }
}
