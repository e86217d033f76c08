// client_time -- clients that are slow, silent or gone, at every point of a dialogue.
#include "dialogue.hpp"

using namespace test;

namespace {

using Milliseconds = std::chrono::milliseconds;

// One octet each 100 ms until the server has said or ended something. How long it took.
Milliseconds drip(Wire& wire, const std::string& octets) {
    const auto began = Clock::now();
    for (std::size_t i = 0; Clock::now() - began < patience; ++i) {
        wire.send(octets.substr(i % octets.size(), 1));
        pollfd in{wire.fd(), POLLIN, 0};
        if (poll(&in, 1, 100) > 0) break;
    }
    return std::chrono::duration_cast<Milliseconds>(Clock::now() - began);
}

// A session that must end by 421 4.4.2 about a second after `script`, while the client does as told.
struct Slow {
    std::string name, script, octets;  // none: silence
    void (*change)(Options&);
};

const std::vector<Slow> slow{
    {"silent from the beginning", "S: 220", "", [](Options& o) { o.command_timeout = 1s; }},
    {"silent after EHLO", "S: 220\nC: EHLO me\nS: 250", "", [](Options& o) { o.command_timeout = 1s; }},
    {"drips a command", "S: 220\nC: EHLO me\nS: 250", "NOOP and so on ", [](Options& o) { o.command_timeout = 1s; }},
    {"silent in a transaction", opening, "", [](Options& o) { o.command_timeout = 1s; }},
    {"silent between chunks", std::string(opening) + "C: BDAT 1\nc: x\nS: 250", "",
     [](Options& o) { o.command_timeout = 1s; }},
    {"silent after DATA", std::string(opening) + "C: DATA\nS: 354", "", [](Options& o) { o.block_timeout = 1s; }},
    {"silent in the text", std::string(opening) + "C: DATA\nS: 354\nc: x\\r\\n.", "",
     [](Options& o) { o.block_timeout = 1s; }},
    {"silent in a chunk", std::string(opening) + "C: BDAT 5\nc: x", "", [](Options& o) { o.block_timeout = 1s; }},
    {"silent in a refused chunk", "S: 220\nC: BDAT 5\nc: x", "", [](Options& o) { o.block_timeout = 1s; }},
    {"drips its text past the time of all of it", std::string(opening) + "C: DATA\nS: 354", "ab\r\n",
     [](Options& o) { o.data_timeout = 1s; }},
    {"drips its chunk past the time of all of it", std::string(opening) + "C: BDAT 1000 LAST", "x",
     [](Options& o) { o.data_timeout = 1s; }},
    {"drips its text below the least rate", std::string(opening) + "C: DATA\nS: 354", "ab\r\n",
     [](Options& o) { o.min_data_rate = 1000, o.data_grace = 1s; }},
    {"drips a text that was refused", std::string(opening) + "C: DATA\nS: 354\nC: lone \\n LF", "ab\r\n",
     [](Options& o) { o.min_data_rate = 1000, o.data_grace = 1s; }},
    {"talks past the time of a session", "S: 220\nC: EHLO me\nS: 250", "NOOP                         ",
     [](Options& o) { o.session_timeout = 1s; }},
    {"sends past the time of a session", std::string(opening) + "C: DATA\nS: 354", "ab\r\n",
     [](Options& o) { o.session_timeout = 1s; }},
};

}  // namespace

TEST_CASE("whoever is too slow hears 421 4.4.2 in time, and no octet wins him more") {
    // All at once: each takes a second of waiting, none of them any work.
    std::vector<Background> all;
    for (const auto& s : slow) {
        all.emplace_back([&s] {
            Setup setup;
            s.change(setup.options);
            Talk talk(setup);
            talk.play(s.script);
            const auto began = Clock::now();
            if (!s.octets.empty()) drip(talk.wire, s.octets);
            talk.wire.expect("421 4.4.2");
            talk.wire.expect_end();
            const auto took = std::chrono::duration_cast<Milliseconds>(Clock::now() - began);
            if (took < 700ms || took > 4s) throw std::runtime_error("took " + std::to_string(took.count()) + " ms");
            if (!talk.end().empty()) throw std::runtime_error("there is a mail");
        });
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
        CAPTURE(slow[i].name);
        CHECK_NOTHROW(all[i].join());
    }
}

TEST_CASE("who is slow but fast enough is heard to the end") {
    Setup setup;
    setup.options.min_data_rate = 500;
    setup.options.data_grace = 1s;
    setup.options.block_timeout = 1s;
    setup.options.command_timeout = 1s;
    Talk talk(setup);
    talk.play(std::string(opening) + "C: DATA\nS: 354");
    std::string text;
    for (const auto end = Clock::now() + 1800ms; Clock::now() < end; std::this_thread::sleep_for(50ms)) {
        const auto line = std::string(98, 'x') + "\r\n";
        talk.wire.send(line);
        text += line;
    }
    talk.play("C: .\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    const auto& mails = talk.end();
    REQUIRE(mails.size() == 1);
    CHECK((mails[0].text == text));
}

TEST_CASE("a client that sends and never reads does not hold the session for ever") {
    Setup setup;
    setup.options.command_timeout = 1s;
    Talk talk(setup);
    Background sender([&] {
        std::string many;
        for (int i = 0; i < 10'000; ++i) many += "HELP\r\n";
        while (talk.wire.send(many)) {
        }
    });
    const auto began = Clock::now();
    talk.wait();
    CHECK(Clock::now() - began < 8s);
    sender.join();
}

TEST_CASE("a client that does not close after 421 is left after two seconds") {
    Setup setup;
    setup.options.max_commands = 1;
    Talk talk(setup);
    talk.play("S: 220\nC: NOOP\nC: NOOP\nC: NOOP\nS: 250\nS: 421\nS: EOF");
    const auto began = Clock::now();
    talk.wait();
    CHECK(Clock::now() - began < 4s);
}

TEST_CASE("QUIT ends at once, whether the client closes or not") {
    Talk talk;
    talk.play("S: 220\nC: QUIT\nS: 221\nS: EOF");
    const auto began = Clock::now();
    talk.wait();
    CHECK(Clock::now() - began < 1s);
}

TEST_CASE("a client may leave at any octet: no mail but a complete one, and the session ends") {
    const std::string before = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    for (const std::string body : {"DATA\r\n..x\r\n\r\n.\r\n", "BDAT 3\r\nabcBDAT 4 LAST\r\nd\r\ne"}) {
        const auto whole = before + body + "QUIT\r\n";
        for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
            CAPTURE(cut);
            const std::size_t complete = cut >= before.size() + body.size() ? 1 : 0;
            Talk polite, rude;
            for (auto* talk : {&polite, &rude}) talk->wire.send(whole.substr(0, cut));
            polite.wire.end();
            CHECK(polite.wait().size() == complete);
            CHECK(rude.end().size() <= complete);  // nobody is there to be told 250
        }
    }
}

TEST_CASE("a connection that is reset at any point does no harm") {
    const std::string before = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    const std::string whole = before + "DATA\r\n..x\r\n\r\n.\r\n";
    for (std::size_t cut = 0; cut < whole.size(); cut += 3) {
        CAPTURE(cut);
        Talk talk({.listeners = [](Server&) {}});
        talk.wire.send(whole.substr(0, cut));
        talk.wire.vanish();
        CHECK(talk.wait().empty());
    }
}

TEST_CASE("a client that ends its direction after QUIT still hears everything") {
    const auto played = dialogue(
        "C: EHLO me\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: DATA\nC: x\nC: .\nC: QUIT\nC: EOF\n"
        "S: 220\nS: 250\nS: 250\nS: 250\nS: 354\nS: 250\nS: 221\nS: EOF");
    CHECK(played.mails.size() == 1);
}
