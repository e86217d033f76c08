// early -- listeners that take their time: tarpits, and clients who do not wait for the greeting.
#include "dialogue.hpp"

using namespace test;

namespace {

// A check for early talkers, as a program would write it.
void refuse_early(Server& server) {
    server.on<Event::Connect>([](Event::Connect& e) {
        e.client.pause(Clock::now() + 300ms);
        if (e.client.pending()) e.reply = {554, "5.5.0", "Wait for the greeting"};
    });
}

}  // namespace

TEST_CASE("who talks before the greeting is seen, and who waits is not") {
    {
        Talk early(listening(refuse_early));
        early.wire.send("EHLO me\r\n");
        early.play("S: 554 5.5.0\nS: EOF");
    }
    Talk patient(listening(refuse_early));
    patient.play("S: 220\nC: EHLO me\nS: 250\nC: QUIT\nS: 221\nS: EOF");
}

TEST_CASE("the end of a connection is nothing that was said") {
    std::atomic<int> seen = -1, there = -1;
    Talk talk(listening([&](Server& s) {
        s.on<Event::Connect>([&](Event::Connect& e) {
            there = e.client.pause(Clock::now() + patience);
            seen = e.client.pending();
        });
    }));
    talk.end();
    CHECK(there == 0);
    CHECK(seen == 0);
}

TEST_CASE("a delayed answer comes, after those before it have gone out") {
    Talk talk(listening([](Server& s) {
        s.on<Event::Rcpt>([](Event::Rcpt& e) {
            if (e.recipient.local == "slow") e.client.pause(Clock::now() + 200ms);
        });
    }));
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250");
    const auto began = Clock::now();
    talk.play("C: RCPT TO:<slow@b>\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    CHECK(Clock::now() - began >= 200ms);
}

TEST_CASE("the session's own end and the server's stop end a delay") {
    auto s = listening([](Server& server) {
        server.on<Event::Rcpt>([](Event::Rcpt& e) { e.client.pause(Clock::now() + 10 * patience); });
    });
    s.options.session_timeout = 1s;
    Talk late(s);
    late.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nS: 421 4.4.2\nS: EOF");

    Server server(Addresses{"127.0.0.1:0"}, brief());
    std::promise<void> waits;
    server.on<Event::Rcpt>([&](Event::Rcpt& e) {
        waits.set_value();
        e.client.pause(Clock::now() + 10 * patience);
    });
    Background running([&] { server.run([](Server::Client& c) { c.accept(); }); });
    auto wire = dial(server);
    play(wire, "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250");
    wire.send("RCPT TO:<c@d>\r\n");
    waits.get_future().wait();
    server.stop();
    play(wire, "S: 250\n");
    wire.close();
    running.join();
}

TEST_CASE("how long a session waits for others is bounded by its own end") {
    bool bounded = false, later = true;
    auto s = listening([&](Server& server) {
        server.on<Event::Mail>([&](Event::Mail& e) {
            const auto wait = e.client.wait(Deadline::max());
            bounded = wait.end <= Clock::now() + patience;
            later = wait.over();
        });
    });
    s.options.session_timeout = patience;
    Talk talk(s);
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
    CHECK(bounded);
    CHECK(!later);
}
