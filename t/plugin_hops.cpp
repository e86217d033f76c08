// plugin_hops -- mail that goes round in circles is refused when it arrives, by the Relay's count.
#include <Net/SMTP/Server/Plugins/Headers.hpp>
#include <Net/SMTP/Server/Plugins/Hops.hpp>
#include <Net/SMTP/Server/Plugins/Origin.hpp>

#include "arriving.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

// A mail that was received so often.
std::string received(int times, const std::string& behind = "Subject: x\r\n\r\nReceived: in the body\r\n") {
    std::string out;
    for (int i = 0; i < times; ++i) out += "Received: from here\r\n\tby there;\r\n Received: not another\r\n";
    return out + behind;
}

std::shared_ptr<Plugin> hops(std::size_t most = usual_max_hops) { return std::make_shared<Hops>(most); }

const std::string too_many = "554 5.4.6 Too many hops";

}  // namespace

TEST_CASE(
    "a mail with too many Received fields is 554 5.4.6, in memory and in a file, and the program does not see it") {
    Folder spool;
    for (const auto& setup : {taking_all(), in_files(spool)}) {
        CHECK(seen(received(99), with({hops()}, setup)).text == received(99));
        for (const int times : {100, 101, 5000}) {
            const auto arrived = arrive(received(times), with({hops()}, setup));
            CHECK(arrived.reply == too_many);
            CHECK(arrived.mails.empty());
            CHECK(arrived.troubles.empty());
        }
        CHECK(arrive(received(100), setup).reply == "250 2.0.0 OK");
    }
}

TEST_CASE("only fields of the header section count, however they are written") {
    const auto three = with({hops(3)}, taking_all());
    CHECK(arrive(received(2), three).reply == "250 2.0.0 OK");
    CHECK(arrive(received(3), three).reply == too_many);
    CHECK(arrive(received(3, ""), three).reply == too_many);
    CHECK(arrive("A: b\r\nreceived:\r\nB: c\r\nRECEIVED :x\r\nReceived: y", three).reply == too_many);
    CHECK(arrive("X-Received: a\r\nReceived-SPF: b\r\nReceived\r\nA: b\r\n Received: c\r\n", three).reply ==
          "250 2.0.0 OK");
    CHECK(arrive("", three).reply == "250 2.0.0 OK");
    CHECK(arrive("\r\n" + received(9), three).reply == "250 2.0.0 OK");
    CHECK(arrive("Received: x\r\n", with({hops(1)}, taking_all())).reply == too_many);
}

TEST_CASE("a Relay says the same of the same mail") {
    for (int times = 0; times < 8; ++times)
        for (const std::size_t most : {1, 3, 7}) {
            CAPTURE(times);
            CAPTURE(most);
            NextHop hop;
            auto options = via(hop);
            options.max_hops = most;
            auto setup = taking_all();
            setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, options); };
            const auto relayed = arrive(received(times), setup).reply;
            setup.handler = [](Server::Client& c) { c.accept(); };
            const auto kept = arrive(received(times), with({hops(most)}, setup)).reply;
            CHECK((relayed == too_many) == (kept == too_many));
            CHECK((kept == too_many) == (std::size_t(times) >= most));
        }
}

TEST_CASE("a Received field of ours does not count, nor does one that was taken out before") {
    const auto three = taking_all();
    const auto headers = std::make_shared<Headers>();
    CHECK(arrive(received(2), with({headers, hops(3)}, three)).reply == "250 2.0.0 OK");
    CHECK(arrive(received(3), with({headers, hops(3)}, three)).reply == too_many);
    CHECK(arrive(received(3), with({hops(3), std::make_shared<Origin>()}, three)).reply == too_many);
    CHECK(arrive(received(3), with({std::make_shared<Origin>(), hops(3)}, three)).reply == "250 2.0.0 OK");
}

TEST_CASE("by LMTP all recipients hear it, and the session goes on") {
    auto setup = taking_all();
    setup.options.protocol = Protocol::lmtp;
    Talk talk(with({hops(2)}, setup));
    const std::string envelope =
        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\nS: 250\nC: DATA\nS: 354";
    talk.play("S: 220\nC: LHLO me\nS: 250\n" + envelope);
    talk.wire.send(received(2) + ".\r\n");
    talk.play("S: 554 5.4.6 Too many hops\nS: 554 5.4.6 Too many hops\n" + envelope);
    talk.wire.send(received(1) + ".\r\n");
    talk.play("S: 250\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    CHECK(talk.end().size() == 1);
}

TEST_CASE("what another one has refused keeps that reply, and a sink is not looked at") {
    const auto refuse = doing([](Event::Arrived& e) { e.reply = {550, "5.7.1", "no"}; });
    CHECK(arrive(received(9), with({refuse, hops(3)}, taking_all())).reply == "550 5.7.1 no");
    auto setup = taking_all();
    setup.listeners = [](Server& s) {
        s.on<Event::Data>([](Event::Data& e) { e.client.into([](std::string_view) {}); });
    };
    CHECK(arrive(received(9), with({hops(3)}, setup)).reply == "250 2.0.0 OK");
}

TEST_CASE("what can't be read is 451 4.3.0, and trouble") {
    Folder spool;
    const auto cut = doing([](Event::Arrived& e) { REQUIRE(ftruncate(e.client.MSG.content()->file.get(), 1) == 0); });
    const auto arrived = arrive(received(1), with({cut, hops()}, in_files(spool)));
    CHECK(arrived.reply == "451 4.3.0 Local error in processing");
    CHECK(arrived.mails.empty());
    CHECK(arrived.troubles.size() == 1);
}

TEST_CASE("no hops at all is no limit") { CHECK_THROWS_AS(Hops(0), std::invalid_argument); }
