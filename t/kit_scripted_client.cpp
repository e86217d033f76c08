// kit_scripted_client -- the kit's ScriptedClient: says what it is told, and fails when what it hears is not right.
#include <doctest/doctest.h>

#include "peer.hpp"

using namespace test;
using Test::Failure;
using Test::Pace;
using Test::ScriptedClient;

namespace {

// A client whose other end has said that already, and then ends its direction, or not.
ScriptedClient told(const std::string& octets, Wire& other, bool ends = true) {
    auto [client, fd] = ScriptedClient::pair();
    other = Wire(fd);
    other.send(octets);
    if (ends) other.end();
    client.patience = 200ms;
    return std::move(client);
}

template <class Work>
std::string failure(const std::string& octets, Work work, bool ends = true) {
    Wire other(-1);
    auto client = told(octets, other, ends);
    try {
        work(client);
    } catch (const Failure& f) {
        return f.what();
    }
    return "it did not fail";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

void hears(ScriptedClient& c) { c.reply(); }

// The pieces that one end sends. This kind of socket keeps them apart.
std::vector<std::string> pieces(const std::string& octets, const Pace& pace) {
    const auto [ours, theirs] = socket_pair(SOCK_SEQPACKET);
    ScriptedClient client(ours);
    Wire other(theirs);
    std::vector<std::string> all;
    Background reader([&] {
        for (;;) {
            auto piece = other.receive();
            if (piece.empty()) return;
            all.push_back(piece);
        }
    });
    CHECK(client.send(octets, pace));
    client.half_close();
    reader.join();
    return all;
}

}  // namespace

TEST_CASE("ScriptedClient: it plays a dialogue with a real server") {
    Server server(Addresses{"127.0.0.1:0"}, {.hostname = "mx.test"});
    for (const auto& pace :
         {Pace::groups, Pace::at_once, Pace::octets, Pace::pieces, Pace::fixed(7), Pace::random(1)}) {
        std::string text;
        Background session([&] {
            Server::Client client(server.accept());
            while (client.process()) {
                text = client.MSG.view();
                client.accept();
            }
        });
        ScriptedClient client(server.address());
        client.play(R"(
            // The greeting names the host.
            S: 220 mx.test
            C: EHLO me
            S: 250-mx.test
            S: 250-PIPELINING
            S: 250-SIZE
            S: 250-8BITMIME
            S: 250-CHUNKING
            S: 250-ENHANCEDSTATUSCODES
            S: 250 HELP

            C: MAIL FROM:<a@b>
            C: RCPT TO:<c@d>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 354
            C: one\ttwo\\ \x41
            c: no end
            c: \r\n
            C: .
            S: 250
            C: QUIT
            S: 221 2.0.0 mx.test
            S: EOF
        )",
                    pace);
        session.join();
        CHECK(text == "one\ttwo\\ A\r\nno end\r\n");
        CHECK(client.heard().starts_with("220 mx.test"));
        CHECK(has(client.transcript(), "S: 221 2.0.0 mx.test"));
    }
}

TEST_CASE("ScriptedClient: it fails when what comes is no reply") {
    for (const auto& row : std::vector<std::pair<std::string, std::string>>{
             {"220 x\n", "does not end in CRLF"},
             {"\n", "does not end in CRLF"},
             {"220 x\r", "the connection ended"},
             {"", "the connection ended"},
             {"220 x", "rest: 220 x"},
             {"\r\n", "no reply"},
             {"220\r\n", "no reply"},
             {"22 0\r\n", "no reply"},
             {"2200 x\r\n", "no reply"},
             {"hello\r\n", "no reply: hello"},
             {"220\tx\r\n", "a control character"},
             {"220 \x7f\r\n", "a control character"},
             {"220 a\rb\r\n", "a control character"},
             {"220-a\r\n221 b\r\n", "no reply: 221 b"},
             {"220-a\r\n220_b\r\n", "no reply"},
             {"220-a\r\n", "the connection ended"},
             {"220 " + std::string(507, 'x') + "\r\n", "too long: 513 octets"},
             {std::string(1'200'000, 'x'), "a line does not end"},
         }) {
        const auto &octets = row.first, &why = row.second;  // clang 14 captures no structured binding
        const auto shown = escaped(octets.substr(0, 100));
        CAPTURE(shown);
        if (octets.size() < 100'000) {
            CHECK(has(failure(octets, hears), why));
            continue;
        }
        auto [client, fd] = ScriptedClient::pair();
        Wire other(fd);
        Background sender([&] { other.send(octets); });
        CHECK_THROWS_WITH_AS(client.reply(), doctest::Contains("a line does not end"), Failure);
        client.close();
        sender.join();
    }
    // At the limit, and UTF-8, are fine.
    Wire other(-1);
    CHECK(told("220 " + std::string(506, 'x') + "\r\n", other).reply().size() == 510);
    CHECK(told("220-\xc3\xa4\r\n220-\r\n220 \r\n", other).reply() == "220-\xc3\xa4\n220-\n220 ");
}

TEST_CASE("ScriptedClient: it fails when another reply comes, and shows what was said") {
    const auto expecting = [](const char* beginning) {
        return [beginning](ScriptedClient& c) {
            c.say("NOOP");
            c.expect(beginning);
        };
    };
    const auto what = failure("550 5.7.1 No\r\n", expecting("250"));
    CHECK(has(what, "expected: 250, got: 550 5.7.1 No"));
    CHECK(has(what, "C: NOOP\\r\\n\nS: 550 5.7.1 No\\r\\n\n"));
    for (const char* wrong : {"550 5.7.1 Now", "550 5.7.2", "55 ", "551", "550-5.7.1"}) {
        CAPTURE(wrong);
        CHECK(has(failure("550 5.7.1 No\r\n", expecting(wrong)), "expected"));
    }
    for (const char* right : {"550 5.7.1 No", "550 5.7.1", "55", ""}) {
        CAPTURE(right);
        CHECK(failure("550 5.7.1 No\r\n", expecting(right)) == "it did not fail");
        CHECK(failure("550-5.7.1 No\r\n550 5.7.1 never\r\n", expecting(right)) == "it did not fail");
    }
    Wire other(-1);
    auto client = told("250 one\r\n501 two\r\n", other, false);
    CHECK(client.ask("x") == 250);
    CHECK(client.ask("y") == 501);
    CHECK(other.receive() == "x\r\ny\r\n");
}

TEST_CASE("ScriptedClient: a played dialogue fails at the first step that is not so") {
    const auto playing = [](const char* script) { return [script](ScriptedClient& c) { c.play(script); }; };
    const std::string hello = "250-mx\r\n250-SIZE 10\r\n250 HELP\r\n";
    for (const char* script : {"S: 250", "S: 250 mx", "S: 250-mx\nS: 250-SIZE\nS: 250 HELP", "S: 250-\nS: 250-\nS: 250",
                               "S: 250\nS: EOF", "S: 250\nC: EOF\nS: EOF", ""}) {
        CAPTURE(script);
        CHECK(failure(hello, playing(script)) == "it did not fail");
    }
    for (const char* script :
         {"S: 220", "S: 250 mx SIZE", "S: 250-mx\nS: 250-8BITMIME", "S: 250-mx\nS: 250-SIZE\nS: 250-HELP",
          "S: 250\nS: 250", "S: EOF", "S: 250-mx\nS: EOF"}) {
        CAPTURE(script);
        CHECK(failure(hello, playing(script)) != "it did not fail");
    }
    CHECK(has(failure("250 x\r\n", playing("S: 250\nS: EOF"), false), "no answer in time"));
}

TEST_CASE("ScriptedClient: a line that is no step is refused before anything is said") {
    for (const char* wrong :
         {"250 x", "X: 250", "S 250", "S:250", "s: 250", "C: a\nQUIT", "c: \\xZZ", "C: \\x1", ":", "S"}) {
        CAPTURE(wrong);
        auto [client, fd] = ScriptedClient::pair();
        Wire other(fd);
        CHECK_THROWS_AS(client.play(std::string("C: NOOP\n") + wrong), std::invalid_argument);
        CHECK_THROWS_AS(client.play(std::string("C: NOOP\n") + wrong, Pace::at_once), std::invalid_argument);
        client.patience = 1ms;
        CHECK_THROWS_AS(client.play(std::string("C: NOOP\nS: 250\n") + wrong), std::invalid_argument);
        client.close();
        CHECK(other.receive().empty());
    }
}

TEST_CASE("ScriptedClient: no wait lasts longer than it may") {
    auto pair = ScriptedClient::pair();
    auto& client = pair.first;
    Wire other(pair.second);
    client.patience = 100ms;
    const auto in_time = [](auto work, Clock::duration at_least, const char* why) {
        const auto began = Clock::now();
        CHECK_THROWS_WITH_AS(work(), doctest::Contains(why), Failure);
        const auto took = Clock::now() - began;
        CHECK(took >= at_least);
        CHECK(took < patience);
    };
    in_time([&] { client.reply(); }, 100ms, "no answer in time");
    in_time([&] { client.line(); }, 100ms, "no answer in time");
    in_time([&] { client.receive(); }, 100ms, "no answer in time");
    in_time([&] { client.expect("250"); }, 100ms, "no answer in time");
    in_time([&] { client.expect_end(); }, 100ms, "no answer in time");
    in_time([&] { client.play("S: 220"); }, 100ms, "no answer in time");
    in_time([&] { client.reply(20ms); }, 20ms, "no answer in time");
    in_time([&] { client.send(std::string(100'000'000, 'x')); }, 100ms, "nobody reads");
    in_time([&] { client.send("x", Pace::octets); }, 100ms, "nobody reads");
    // One octet now and then does not make it longer: the deadline is of the whole reply.
    other.send("2");
    Background drip([&] {
        try {
            for (int i = 0; i < 1000; ++i) {
                std::this_thread::sleep_for(5ms);
                if (!other.send("2")) return;
            }
        } catch (const Failure&) {
        }
    });
    in_time([&] { client.reply(); }, 100ms, "no answer in time; rest: 22");
    client.close();
    drip.join();
}

TEST_CASE("ScriptedClient: the end and silence are expected, and nothing else will do") {
    const auto end = [](ScriptedClient& c) { c.expect_end(); };
    const auto silence = [](ScriptedClient& c) { c.expect_silence(30ms); };
    CHECK(failure("", end) == "it did not fail");
    CHECK(has(failure("x", end), "expected the end, got: x"));
    CHECK(has(failure("", end, false), "no answer in time"));
    CHECK(failure("", silence, false) == "it did not fail");
    CHECK(has(failure("", silence), "expected silence, got the end"));
    CHECK(has(failure("x\x01", silence, false), "expected silence, got: x\\x01"));
    const auto after_a_line = [](ScriptedClient& c) {
        c.line();
        c.expect_end();
    };
    CHECK(has(failure("220 a\r\n221 b\r\n", after_a_line), "expected the end, got: 221 b\\r\\n"));
    const auto after_a_line_silence = [](ScriptedClient& c) {
        c.line();
        c.expect_silence(1ms);
    };
    CHECK(has(failure("220 a\r\n22", after_a_line_silence, false), "expected silence, got: 22"));
    Wire other(-1);
    auto client = told("220 a\r\nrest", other);
    CHECK(client.line() == "220 a");
    CHECK(client.receive() == "rest");
    CHECK(client.receive().empty());
}

TEST_CASE("ScriptedClient: half of the connection may end, or all of it as if the machine had died") {
    Server server(Addresses{"127.0.0.1:0"});
    for (const bool dies : {false, true}) {
        CAPTURE(dies);
        ScriptedClient client(server.addresses().front());
        Wire other(fcntl(server.accept().fd(), F_DUPFD_CLOEXEC, 0));
        if (dies) client.play("C: NOOP\nC: RESET");
        else client.play("C: NOOP\nC: EOF");
        if (!dies) {
            CHECK(other.line() == "NOOP");
            CHECK(other.receive().empty());
            CHECK(has(other.transcript(), "S: EOF"));
            other.say("250 still here");
            client.play("S: 250 still here");
            continue;
        }
        while (!other.receive().empty()) {
        }
        CHECK(has(other.transcript(), "reset"));
    }
}

TEST_CASE("ScriptedClient: sending to who has gone is false") {
    auto [client, fd] = ScriptedClient::pair();
    close(fd);
    CHECK(!client.say("NOOP"));
    CHECK(!client.send("x", Pace::octets));
    CHECK_THROWS_AS(client.reply(), Failure);
}

TEST_CASE("ScriptedClient: nobody to connect to is a Failure with the address") {
    std::string address;
    {
        Server server(Addresses{"127.0.0.1:0"});
        address = server.address();
    }
    CHECK_THROWS_WITH_AS(ScriptedClient{address}, doctest::Contains(address.c_str()), Failure);
    CHECK_THROWS_AS(ScriptedClient("unix:/nonexistent/socket"), Failure);
    CHECK_THROWS_AS(ScriptedClient("two words"), Failure);
}

TEST_CASE("ScriptedClient: octets go out in the pieces that were asked for") {
    using Strings = std::vector<std::string>;
    CHECK(pieces("abcdefg", Pace::groups) == Strings{"abcdefg"});
    CHECK(pieces("abcdefg", Pace::octets) == Strings{"a", "b", "c", "d", "e", "f", "g"});
    CHECK(pieces("abcdefg", Pace::fixed(3)) == Strings{"abc", "def", "g"});
    CHECK(pieces("abc", Pace::fixed(0)) == Strings{"a", "b", "c"});
    CHECK(pieces("abc", Pace::fixed(3)) == Strings{"abc"});
    std::string much;
    while (much.size() < 2000) much += "some words and more ";
    const auto cut = pieces(much, Pace::random(1, 100));
    std::string together;
    for (const auto& piece : cut) {
        CHECK(piece.size() <= 100);
        together += piece;
    }
    CHECK(together == much);
    CHECK(cut.size() >= 20);
    CHECK(pieces(much, Pace::random(1, 100)) == cut);
    CHECK(pieces(much, Pace::random(2, 100)) != cut);
}

TEST_CASE("ScriptedClient: at once means that everything is said before anything is heard") {
    auto [client, fd] = ScriptedClient::pair();
    Wire other(fd);
    Background server([&] {
        CHECK(other.line() == "one");
        CHECK(other.line() == "two");
        other.send("220 a\r\n221 b\r\n");
    });
    client.play("S: 220 a\nC: one\nS: 221\nC: two", Pace::at_once);
    server.join();
    auto [waiting, theirs] = ScriptedClient::pair();
    Wire third(theirs);
    waiting.patience = 50ms;
    CHECK_THROWS_AS(waiting.play("S: 220\nC: one"), Failure);
    waiting.close();
    CHECK(third.receive().empty());  // it was not yet its turn
}

TEST_CASE("ScriptedClient: a long dialogue leaves a short transcript, with both ends of it") {
    auto [client, fd] = ScriptedClient::pair();
    Wire other(fd);
    client.say("first");
    for (int i = 0; i < 2000; ++i) {
        client.say(std::string(1000, 'x'));
        if (i % 50 == 0) other.receive();
    }
    client.say("last");
    CHECK(client.transcript().size() < 10'000);
    CHECK(client.transcript().starts_with("C: first\\r\\n\n"));
    CHECK(client.transcript().ends_with("C: last\\r\\n\n"));
    CHECK(has(client.transcript(), "... (1002 octets)"));
    CHECK(has(client.transcript(), "...\n"));
}

TEST_CASE("octets that were escaped come back the same") {
    std::string all;
    for (int i = 0; i < 256; ++i)
        if (i != '\\') all += char(i);
    CHECK(unescaped(escaped(all)) == all);
    CHECK(escaped("a\r\n\x01\xff~\x7f\t") == "a\\r\\n\\x01\\xff~\\x7f\\x09");
    CHECK(unescaped("\\r\\n\\t\\0\\\\\\x7f\\q\\") == std::string("\r\n\t\0\\\x7fq\\", 8));
    for (const char* wrong : {"\\x", "\\x1", "\\xg0", "\\x0g", "\\x-1", "\\x+1", "\\x 1"}) {
        CAPTURE(wrong);
        CHECK_THROWS_AS(unescaped(wrong), std::invalid_argument);
    }
    CHECK(Test::begins("Mail from:<a@b>", "MAIL FROM:<A"));
    CHECK(Test::begins("x", ""));
    CHECK(!Test::begins("MAIL", "MAIL FROM"));
}
