// plugin_transcript -- what a transcript shows of a session, what it hides, and that it can't be broken into.
#include <sstream>

#include "crowd.hpp"
#include "over_tls.hpp"
#include "toy_authenticator.hpp"
#include "transcript_lines.hpp"

using namespace test;

namespace {

Setup written(const Lines& lines, Setup s = {}) {
    s.listeners = [lines, before = s.listeners](Server& server) {
        if (before) before(server);
        Transcript(lines.write()).listen(server.pipeline());
    };
    return s;
}

const std::string text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\nS: 250\n";
const std::string quit = "C: QUIT\nS: 221\nS: EOF";

}  // namespace

TEST_CASE("a transcript holds what was said, by whom, and the size of the text in place of it") {
    Lines lines;
    dialogue(std::string(opening) + text + quit, written(lines));
    auto said = lines.said();
    REQUIRE(said.size() > 10);
    CHECK(said[0].starts_with("-- connect from 127.0.0.1:"));
    CHECK(said[0].find(" to 127.0.0.1:") != std::string::npos);
    CHECK(said[1] == "S: 220 mx.test ESMTP");
    CHECK(said[2] == "C: EHLO me");
    CHECK(said[3] == "S: 250-mx.test");
    const auto at = std::size_t(std::ranges::find(said, "C: MAIL FROM:<a@b>") - said.begin());
    REQUIRE(at + 11 == said.size());
    CHECK(said[at - 1] == "S: 250 HELP");
    CHECK(said[at + 1] == "S: 250 2.1.0 Sender OK");
    CHECK(said[at + 3] == "S: 250 2.1.5 Recipient OK");
    CHECK(said[at + 4] == "C: DATA");
    CHECK(said[at + 5].starts_with("S: 354 "));
    CHECK(said[at + 6].starts_with("-- message "));
    CHECK(said[at + 6].ends_with("-1, 21 octets"));
    CHECK(said[at + 7] == "S: 250 2.0.0 OK");
    CHECK(said[at + 8] == "C: QUIT");
    CHECK(said[at + 10] == "-- disconnect");
    CHECK(!lines.holds("hello"));
}

TEST_CASE("each line has a time and its session") {
    Lines lines;
    dialogue("S: 220\n" + quit, written(lines));
    std::string id;
    for (const auto& line : lines.get()) {
        CAPTURE(line);
        REQUIRE(line.size() > 40);
        CHECK(line.substr(0, 2) == "20");
        for (const auto& [at, c] : {std::pair(4, '-'), {7, '-'}, {10, 'T'}, {13, ':'}, {16, ':'}, {19, '.'}, {23, 'Z'}})
            CHECK(line[std::size_t(at)] == c);
        if (id.empty()) id = line.substr(25, 13);
        CHECK(line.substr(24, 15) == ' ' + id + ' ');
    }
}

TEST_CASE("nothing behind AUTH and its mechanism is shown, however it is written") {
    using T = Transcript;
    CHECK(T::shown("AUTH PLAIN AGpvZQBzZXNhbWU=") == "AUTH PLAIN ***");
    CHECK(T::shown("auth plain AGpvZQBzZXNhbWU=") == "auth plain ***");
    CHECK(T::shown("AUTH PLAIN") == "AUTH PLAIN");
    CHECK(T::shown("AUTH PLAIN  ") == "AUTH PLAIN");
    CHECK(T::shown("AUTH") == "AUTH");
    CHECK(T::shown("AUTH\tPLAIN\tAGpv") == "AUTH\\x09PLAIN ***");
    CHECK(T::shown(" \tAuth  plain  AGpv  x") == " \\x09Auth  plain ***");
    CHECK(T::shown("AUTH PLAIN\x01"
                   "AGpv") == "AUTH PLAIN ***");
    CHECK(T::shown("AUTH AGpvZQBzZXNhbWU=") == "AUTH ***");  // the mechanism was left out
    CHECK(T::shown("AUTH AGpv PLAIN") == "AUTH ***");
    CHECK(T::shown("AUTHPLAIN AGpv") == "AUTH ***");
    CHECK(T::shown("AUTH=PLAIN AGpv") == "AUTH ***");
    CHECK(T::shown("AUTH PLAINAGpv") == "AUTH ***");
    CHECK(T::shown("AUTH SCRAM-SHA-256 biws") == "AUTH SCRAM-SHA-256 ***");
    CHECK(T::shown("MAIL FROM:<a@b> AUTH=<>") == "MAIL FROM:<a@b> AUTH=<>");  // a name, no secret
    CHECK(T::shown("") == "");
}

TEST_CASE("secrets are hidden also where they come as commands") {
    Lines lines;
    const auto secret = base64_encode(credentials);
    auto setup = written(lines, authenticating());
    // Behind an AUTH that was refused, or without waiting for the question.
    dialogue(greeted + "C: AUTH XYZ\nS: 504\nC: " + secret + "\nS: 500\nC: x " + secret +
                 "\nS: 500\nC: NOOP\nS: 250\n" + "C: auth\tplain\t" + secret + "\nS: 5\nC: AUTH " + secret +
                 "\nS: 5\nC: NOOP\nS: 250\nC: XYZZY\nS: 500\n" + "C: " + plain() + "\nS: 235\nC: PLUGH\nS: 500\n" +
                 quit,
             setup);
    CHECK(!lines.holds(secret));
    CHECK(!lines.holds("S: 334"));
    CHECK(lines.holds("C: AUTH ***"));
    CHECK(lines.holds("C: AUTH PLAIN ***"));
    CHECK(lines.holds("S: 235 2.7.0"));
    CHECK(lines.holds("C: XYZZY"));  // after a command it is none again
    CHECK(lines.holds("C: PLUGH"));
    const auto said = lines.said();
    CHECK(std::ranges::count(said, "C: ***") == 2);
}

TEST_CASE("responses to challenges are not in it") {
    Lines lines;
    dialogue(greeted + "C: AUTH ASK\nS: 334\nC: am9l\nS: 334\nC: c2VzYW1l\nS: 235\n" + quit,
             written(lines, authenticating()));
    CHECK(!lines.holds("am9l"));
    CHECK(!lines.holds("c2VzYW1l"));
    CHECK(lines.holds("C: AUTH ***"));  // a mechanism of the program's own might as well be a secret
}

TEST_CASE("no client writes lines of its own into it, or commands for a terminal, or endless ones") {
    CHECK(Transcript::shown("a\r\nb\x1b[2J\x7f\\") == "a\\x0D\\x0Ab\\x1B[2J\\x7F\\x5C");
    CHECK(Transcript::shown("MAIL FROM:<\xC3\xA4@b>") == "MAIL FROM:<\xC3\xA4@b>");
    CHECK(Transcript::shown("\xC2\x9B"
                            "2J\xC2\xA0") == "\\xC2\\x9B2J\xC2\xA0");  // CSI as one character
    CHECK(Transcript::shown("\xC3x\xFF\xC3\xA4") == "\\xC3x\\xFF\\xC3\\xA4");
    CHECK(Transcript::shown(std::string(1000, 'x')) == std::string(1000, 'x'));
    CHECK(Transcript::shown(std::string(1001, 'x')) == std::string(1000, 'x') + "[and 1 octets]");
    CHECK(Transcript::shown(std::string(999, 'x') + "\xC3\xA4") == std::string(999, 'x') + "[and 2 octets]");
}

TEST_CASE("it shows commands and replies as others have made them") {
    Lines lines;
    Setup s;
    s.listeners = [](Server& server) {
        auto plugin = std::make_shared<Plugin>();
        plugin->on<Event::Command>([](Event::Command& e) {
            if (e.line == "XYZZY") e.line = "NOOP";
        });
        server.pipeline().add("plugin", plugin);
        server.on<Event::Response>([](Event::Response& e) {
            if (e.reply.text == "OK") e.reply.text = "Fine\nindeed";
            e.swallow = e.reply.text == "Reset";
        });
    };
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: XYZZY\nS: 250-2.0.0 Fine\nS: 250 2.0.0 indeed\nC: RSET\n" + quit,
             written(lines, s));
    CHECK(lines.holds("C: NOOP"));
    CHECK(lines.holds("S: 250-2.0.0 Fine"));
    CHECK(lines.holds("S: 250 2.0.0 indeed"));
    CHECK(lines.holds("S (not sent): 250 2.0.0 Reset"));
}

TEST_CASE("it tells of TLS, and of a connection that was lost") {
    Lines lines;
    auto setup = written(lines);
    setup.options = with_tls();
    dialogue_over_tls("C: EHLO me\nS: 250\n", setup);
    CHECK(lines.holds("-- TLS is TLSv1.3 TLS_"));
    CHECK(lines.said().back() == "-- disconnect: the connection was lost");
    Lines failed;
    auto other = written(failed);
    other.options = with_tls();
    {
        Talk talk(other);
        talk.play(starttls);
        talk.wire.send("this is no handshake\r\n");
        talk.end();
    }
    CHECK(failed.holds("-- TLS failed: "));
}

TEST_CASE("a writer that throws costs no mail") {
    Setup s;
    s.listeners = [](Server& server) {
        Transcript([](std::string_view) { throw std::runtime_error("disk full"); }).listen(server.pipeline());
    };
    const auto played = dialogue(std::string(opening) + text + quit, s);
    CHECK(played.mails.size() == 1);
    CHECK(played.troubles.empty());
}

TEST_CASE("it can be written to a stream or a file, and taken off") {
    std::ostringstream stream;
    Folder folder;
    std::FILE* const file = std::fopen((folder / "log").c_str(), "w+");
    REQUIRE(file);
    Setup s;
    s.listeners = [&](Server& server) {
        Transcript(stream).listen(server.pipeline());
        Transcript(file).listen(server.pipeline());
        for (const auto listener : Transcript(stream).listen(server.pipeline())) CHECK(server.pipeline().off(listener));
    };
    dialogue("S: 220\n" + quit, s);
    const auto text_of_stream = stream.str();
    CHECK(std::ranges::count(text_of_stream, '\n') == 5);
    CHECK(text_of_stream.find("C: QUIT\n") != text_of_stream.npos);
    std::rewind(file);
    char octets[4096];
    const std::string text_of_file(octets, std::fread(octets, 1, sizeof octets, file));
    CHECK(std::ranges::count(text_of_file, '\n') == 5);
    std::fclose(file);
}

TEST_CASE("lines of 20 clients at once are whole, and each session's in order") {
    Lines lines;
    RunningServer running({}, [&](Server& s) { Transcript(lines.write()).listen(s.pipeline()); });
    crowd(running.server, [](Wire& wire, int) {
        for (int n = 0; n < 10; ++n) CHECK(wire.ask("NOOP") == 250);
    });
    running.server.stop();
    running.thread.join();
    std::map<std::string, std::vector<std::string>> sessions;
    for (const auto& line : lines.get()) sessions[line.substr(25, 13)].push_back(line.substr(39));
    CHECK(sessions.size() == 20);
    for (const auto& [id, said] : sessions) {
        CHECK(said.front().starts_with("-- connect"));
        CHECK(said.back() == "-- disconnect");
        CHECK(std::ranges::count(said, "C: NOOP") == 10);
        CHECK(std::ranges::count(said, "S: 250 2.0.0 OK") == 10);
    }
}
