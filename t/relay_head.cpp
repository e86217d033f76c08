// relay_head -- what a queue asks of a Relay: a head of its own in front of the text, and who owes the sender notices.
#include <Net/SMTP/Server/Test/FakeResolver.hpp>

#include "next_hop.hpp"

using namespace test;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");
const std::string head = "Received: from a (b [192.0.2.1])\r\n\tby c; Sat, 1 Nov 2025 07:00:00 +0000\r\nX-Y: z\r\n";

struct Keeping : Target {
    std::vector<Reply> deliver(const Sender&, std::span<const Recipient> to, const Message&, const std::string& front,
                               const Wait&) override {
        seen = front;
        return {to.size(), Reply{250, "2.0.0", "kept"}};
    }
    std::string name() const override { return "keeping"; }
    std::string seen;
};

}  // namespace

TEST_CASE("a head goes in front of the text in place of our Received, by DATA, by BDAT and to a target") {
    for (const char* keywords : {"PIPELINING\nSIZE 1000", "CHUNKING\nSIZE 1000", ""}) {
        CAPTURE(keywords);
        NextHop hop({}, keywords);
        auto o = via(hop);
        o.head = head;
        CHECK(Relay(Sender("a@b"), recipients({"c@d"}), text, o).delivered());
        const auto heard = hop.only();
        CHECK(heard.text == head + std::string(text.view()));
        const auto size = " SIZE=" + std::to_string(head.size() + text.size());
        if (*keywords) CHECK(heard.commands[1] == "MAIL FROM:<a@b>" + size);
    }
    const auto target = std::make_shared<Keeping>();
    Relay::Options o;
    o.target = target;
    o.head = head;
    CHECK(Relay(Sender("a@b"), recipients({"c@d"}), text, o).delivered());
    CHECK(target->seen == head);
}

TEST_CASE("a head that is not whole fields is refused before anything is connected") {
    using namespace std::string_literals;
    for (const auto& bad : {"X: y"s, "X: y\n"s, "X: y\r\n\r\n"s, "\r\nX: y\r\n"s, " X: y\r\n"s, "X: y\r\n \r\n"s,
                            "X: y\rz\r\n"s, "X: y\nz\r\n"s, "X: y\0z\r\n"s, "hello\r\n"s, ": y\r\n"s, "X : y\r\n"s,
                            "X\xc3\xa9: y\r\n"s, "X: y\r\nhello\r\n"s, "X: y\r\n.\r\n"s, "X: y\r\n\t \t\r\n"s}) {
        CAPTURE(escaped(bad));
        NextHop hop;
        auto o = via(hop);
        o.head = bad;
        CHECK_THROWS_AS(Relay(Sender("a@b"), recipients({"c@d"}), text, o), std::invalid_argument);
        CHECK_FALSE(hop.asked());
    }
}

TEST_CASE("who offers DSN and has taken the mail notifies from now on, and nobody else does") {
    auto to = recipients({"c@d", "e@f"});
    to[0].notify.success = true;
    for (const std::string offered : {"DSN", "dsn", "PIPELINING\nDSN", "CHUNKING\nDSN"}) {
        CAPTURE(offered);
        NextHop hop({{"RCPT TO:<e", "550 5.1.1 nobody"}}, offered);
        auto o = via(hop);
        o.partial = true;
        const Relay relay(Sender("a@b"), to, text, o);
        CHECK(relay.results()[0].notifies);
        CHECK(relay.results()[0].delivered());
        CHECK_FALSE(relay.results()[1].notifies);
        CHECK(hop.only().commands[2] == "RCPT TO:<c@d> NOTIFY=SUCCESS");
    }
    NextHop without({}, "PIPELINING");
    CHECK_FALSE(Relay(Sender("a@b"), to, text, via(without)).results()[0].notifies);
    NextHop refuses({{".", "554 5.6.0 no"}}, "DSN");
    CHECK_FALSE(Relay(Sender("a@b"), to, text, via(refuses)).results()[0].notifies);
    NextHop loses({{".", "CLOSE"}}, "DSN");
    CHECK_FALSE(Relay(Sender("a@b"), to, text, via(loses)).results()[0].notifies);
}

TEST_CASE("the host that takes it is the one that counts, not one that was asked before it") {
    for (const bool first_offers : {true, false}) {
        CAPTURE(first_offers);
        Test::ScriptedServer::Options at;
        at.listen = "127.88.0.2:0";
        Test::ScriptedServer first(at);
        at.listen = "127.88.0.3:" + std::to_string(first.port());
        Test::ScriptedServer second(at);
        (first_offers ? first : second).reply_to("EHLO", {250, "", "there\nDSN"});
        (first_offers ? second : first).reply_to("EHLO", {250, "", "there\nSIZE"});
        first.reply_to(".", {451, "4.3.0", "not yet"});
        auto dns = std::make_shared<Test::FakeResolver>();
        dns->add("d.example", "MX 10 first.example");
        dns->add("d.example", "MX 20 second.example");
        dns->add("first.example", "A 127.88.0.2");
        dns->add("second.example", "A 127.88.0.3");
        Relay::Options o;
        o.resolver = dns;
        o.mx_port = first.port();
        o.hostname = "relay.test";
        const Relay relay(Sender("a@b"), recipients({"c@d.example"}), text, o);
        CHECK(relay.results()[0].host.starts_with("second.example["));
        CHECK(relay.results()[0].notifies == !first_offers);
    }
}
